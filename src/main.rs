//! The program: parse, log, run, and one table of exit codes. Everything else is in the library.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use keyhole::app::{self, RunError};
use keyhole::cli::{Cli, Command, DriverOptions};
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

fn fail(code: u8, text: &str) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::from(code)
}
