//! The program: parse, log, run, and one table of exit codes. Everything else is in the library.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Parser;
use keyhole::app::{self, RunError};
use keyhole::cli::{Cli, Command, DriverOptions, KeeperOptions};
use keyhole::keeper::{self, KeeperError};
use keyhole::redact::allocator::WipingAllocator;
use keyhole::{demo, telemetry};

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// It did not start, or did not go on.
const FAILED: u8 = 1;
/// What a person wrote is wrong: flags (clap uses the same code) or the configuration file.
const WRONG_INPUT: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Driver(args) => driver(&args.into()),
        Command::Demo(options) => match demo::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &format!("{error:#}")),
        },
        Command::DemoReader => match demo::read() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILED, &format!("{error:#}")),
        },
        Command::Keeper(options) => keeper(options),
        Command::Responder { keeper_fd } => child(keeper_fd, keyhole::responder::respond),
        Command::Rotator { control_fd } => child(control_fd, |fd| keeper::rotator::run(&fd)),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let line = format!("keyhole {version} ({})", env!("KEYHOLE_COMMIT"));
            match writeln!(std::io::stdout(), "{line}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(FAILED),
            }
        }
    }
}

fn driver(options: &DriverOptions) -> ExitCode {
    if let Err(error) = telemetry::start(options.log_format, &options.log_level) {
        return fail(WRONG_INPUT, &format!("--log-level: {error:#}"));
    }
    telemetry::build_info();
    match app::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ RunError::Configuration(_)) => fail(WRONG_INPUT, &error.to_string()),
        Err(RunError::Failed(error)) => fail(FAILED, &format!("{error:#}")),
    }
}

fn keeper(options: KeeperOptions) -> ExitCode {
    let KeeperOptions { socket, orphan_grace } = options;
    match keeper::serve::run(&keeper::serve::Options { socket, orphan_grace }) {
        Ok(never) => match never {},
        Err(error) => fail(FAILED, &format!("keeper: {:#}", anyhow::Error::new(error))),
    }
}

/// A child of the keeper, with the end of a socket pair that it was given.
fn child(control: i32, run: impl Fn(OwnedFd) -> Result<(), KeeperError>) -> ExitCode {
    let end = keeper::control(control).map_err(KeeperError::Unreachable);
    match end.and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("{:#}", anyhow::Error::new(error))),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::from(code)
}
