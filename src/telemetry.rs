//! Logs and metrics: what the driver tells operators. Never a secret, never an error's payload.
//!
//! See [`start`] first for logs, [`catalog`] for every metric.

pub mod catalog;
pub mod metrics;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Always applied after the level: these libraries log requests and bodies in their errors, or each
/// failed call at ERROR by themselves.
const QUIET: &str = "vaultrs=off,rustify=off,fuser=off,h2=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,tonic=warn,tower=warn";

/// Starts logging to standard error. `level` is `error`, `warn`, `info`, `debug` or `trace`, or a
/// filter in the form of `tracing_subscriber::EnvFilter`.
///
/// # Errors
/// `level` is neither, or logging was started before.
pub fn start(format: LogFormat, level: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{level},{QUIET}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging does not start: {error}"))?;
    // A panic's payload may quote what it tripped over: the place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a bug: the task panicked");
    }));
    Ok(())
}

/// The first line of every log.
pub fn build_info() {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), commit = env!("KEYHOLE_COMMIT"), "keyhole");
}
