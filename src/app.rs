//! Composition root of the driver: the only file that names concrete types.
//!
//! See [`run`] first: options -> configuration -> rooms -> sockets -> wait -> drain. What it refuses:
//! to start with a wrong configuration file (every mistake is printed, exit code 2). On SIGTERM it
//! stops taking calls, finishes the revocations of volumes that have ended, and leaves; sessions of
//! pods that still run are left to their terms, because their applications go on using what they read.

mod reload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::readiness::Readiness;
use crate::cli::DriverOptions;
use crate::clock::{Clock, SystemClock};
use crate::config::watch::ConfigFile;
use crate::fuse::mounts::FuseMounts;
use crate::host::audit::AuditLog;
use crate::host::callers::CgroupCallers;
use crate::lease::leases::Leases;
use crate::spec::mistake::Mistake;
use crate::telemetry::metrics::Metrics;
use crate::vault::connections::Connections;
use crate::volume::lifecycle::{Lifecycle, Surroundings};

/// How long a driver that is told to stop goes on revoking what ended before.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the driver did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong: what to mend. Exit code 2.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Configuration(Vec<Mistake>),
    /// Anything else: a socket, a signal, the kernel. Exit code 1.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Runs the driver until SIGTERM or SIGINT.
///
/// # Errors
/// See [`RunError`].
pub fn run(options: &DriverOptions) -> Result<(), RunError> {
    // Before any thread is made: it sets how glibc's allocator treats fuser's 16 MiB buffers.
    crate::redact::allocator::pin();
    crate::host::limits::set();
    crate::vault::tls::install_crypto();
    let (config, file) = ConfigFile::load(&options.config).map_err(RunError::Configuration)?;
    let connections = Connections::new(&config).map_err(RunError::Configuration)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // What takes long runs on the blocking pool or a volume's own thread. A second worker would steal the
        // steps of a fetch back and forth: measured, it made a first read 1.5 times as long.
        .worker_threads(1)
        .thread_name("keyhole")
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(serve(options, config, file, Arc::new(connections)))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

async fn serve(
    options: &DriverOptions,
    config: crate::config::Config,
    file: ConfigFile,
    connections: Arc<Connections>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new();
    let readiness = Readiness::new();
    let starting = readiness.latch("driver");
    let driver_name = config.driver_name.clone();
    let config = Arc::new(ArcSwap::from_pointee(config));

    let leases = Leases::start(
        Arc::clone(&connections) as Arc<dyn crate::secret::store::Stores>,
        Arc::clone(&clock),
        Arc::new(metrics.clone()),
    );
    let mounts = FuseMounts::new(
        options.kubelet_dir.clone(),
        tokio::runtime::Handle::current(),
        Arc::clone(&clock),
    )?;
    let audit = Arc::new(AuditLog::new(Arc::clone(&clock), metrics.clone()));
    let volumes = Arc::new(Lifecycle::new(Surroundings {
        config: Arc::clone(&config),
        leases: leases.clone(),
        mounts: Arc::new(mounts),
        callers: Arc::new(CgroupCallers::new()?),
        audit: Arc::clone(&audit) as Arc<dyn crate::fs::files::Audit>,
        clock,
        metrics: metrics.clone(),
    }));

    let admin = listen(options.admin_listen).await?;
    let admin =
        tokio::spawn(crate::admin::serve(admin, readiness.clone(), metrics.clone(), stop.clone()));
    let reload =
        tokio::spawn(reload::follow(file, config, connections, metrics.clone(), stop.clone()));
    let mut csi = tokio::spawn(crate::csi::serve(
        crate::csi::Options {
            driver_name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: options.node_name.clone(),
            socket: options.csi_socket.clone(),
            registration_dir: Some(options.registration_dir.clone()),
        },
        volumes,
        readiness,
        metrics,
        stop.clone(),
    ));
    drop(starting);

    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = stop.clone();
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut csi => ended.context("the CSI server died")?.context("the CSI server ended"),
        ended = admin => ended.context("the admin server died")?.context("the admin server ended"),
    };
    stopped.cancel();
    if !csi.is_finished() {
        // Calls that are under way are answered and the sockets taken away, within reason.
        drop(tokio::time::timeout(DRAIN, csi).await);
    }
    let left = leases.drain(DRAIN).await;
    if left > 0 {
        tracing::warn!(left, "revocations not done: these tokens live until their own end");
    }
    drop(reload.await);
    audit.flush();
    ended
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address} (--admin-listen)"))
}
