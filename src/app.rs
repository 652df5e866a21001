//! Composition root of the driver: the only file that names concrete types.
//!
//! See [`run`] first: options -> configuration -> rooms -> the right to act -> volumes of the driver before ->
//! sockets -> wait -> leave. What it refuses: to start with a wrong configuration file (every mistake is printed,
//! exit code 2). On SIGTERM it stops taking calls, finishes the revocations of volumes that have ended, and leaves;
//! mounts, sessions and leases of pods that still run are kept for the next driver.

mod handover;
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
use crate::custody::{Custody, Event};
use crate::fuse::mode::Mode;
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
/// How long one that leaves for a successor waits for what Vault is being asked.
const SETTLE: Duration = Duration::from_secs(3);
/// How often the serving loop shows that it turns.
const PULSE: Duration = Duration::from_millis(500);

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
    let ended = runtime.block_on(serve(options, config, file, Arc::new(connections)));
    // Not dropped: that would drop the tasks that owe answers, and each would answer EIO on its way. The process ends
    // now, and the next driver is asked again what this one did not answer.
    std::mem::forget(runtime);
    Ok(ended?)
}

/// How the driver's work came to its end.
enum Ended {
    /// An operator, or something that the driver cannot go on without.
    Stopped(anyhow::Result<()>),
    /// Another driver goes on.
    Succeeded,
}

async fn serve(
    options: &DriverOptions,
    config: crate::config::Config,
    file: ConfigFile,
    connections: Arc<Connections>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::new();
    let readiness = Readiness::new();
    let starting = readiness.latch("driver");
    let driver_name = config.driver_name.clone();
    let config = Arc::new(ArcSwap::from_pointee(config));

    let keeper = crate::custody::Options {
        socket: options.keeper_socket.clone(),
        waits: std::env::var_os(handover::WAITS).is_some(),
    };
    let (custody, mut events) = Custody::start(keeper, Arc::clone(&clock), metrics.clone())
        .context("the keeper's thread does not start")?;
    let pulse = tokio::spawn(pulse(custody.clone()));

    let admin = listen(options.admin_listen).await?;
    let admin =
        tokio::spawn(crate::admin::serve(admin, readiness.clone(), metrics.clone(), stop.clone()));
    let leases = Leases::start(
        Arc::clone(&connections) as Arc<dyn crate::secret::store::Stores>,
        Arc::clone(&clock),
        Arc::new(metrics.clone()),
        Arc::new(custody.clone()),
    );
    let left = tokio::select! {
        left = handover::begin(&custody, &mut events) => left,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let left = left.unwrap_or_default();
    let mode = Mode::find(options.takeover, crate::custody::device(&left))?;
    tracing::info!(mode = mode.as_str(), "how this kernel hands requests over");
    metrics.set_mode(mode.as_str());
    let mounts = FuseMounts::new(
        options.kubelet_dir.clone(),
        tokio::runtime::Handle::current(),
        Arc::clone(&clock),
        mode,
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
        shelf: Arc::new(custody.clone()),
        keeping: Arc::new(custody.clone()),
        errands: Arc::new(custody.clone()),
        pods: Arc::new(crate::host::pods::HostPods::default()),
    }));

    handover::adopt(left, &custody, &leases, &volumes, &metrics).await;
    metrics.set_swappable(crate::host::segment::is_swappable());

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
        Arc::clone(&volumes) as Arc<dyn crate::volume::publish::Volumes>,
        readiness,
        metrics.clone(),
        stop.clone(),
    ));
    drop(starting);
    let late = async {
        loop {
            match events.recv().await {
                // The keeper came after us, with what a driver before us had left.
                Some(Event::Taken(left)) => {
                    handover::adopt(left, &custody, &leases, &volumes, &metrics).await;
                }
                Some(Event::Leave | Event::Lost) => return,
                None => std::future::pending().await,
            }
        }
    };

    let ended = tokio::select! {
        _ = terminate.recv() => Ended::Stopped(Ok(())),
        _ = interrupt.recv() => Ended::Stopped(Ok(())),
        ended = &mut csi => Ended::Stopped(ended.context("the CSI server died")?.context("the CSI server ended")),
        ended = admin => Ended::Stopped(ended.context("the admin server died")?.context("the admin server ended")),
        () = late => Ended::Succeeded,
        () = volumes.sweep(options.sweep_interval) => Ended::Stopped(Ok(())),
    };
    stop.cancel();
    if !csi.is_finished() {
        // Calls that are under way are answered and the sockets taken away, within reason.
        drop(tokio::time::timeout(DRAIN, csi).await);
    }
    let ended = match ended {
        Ended::Succeeded => {
            leases.settle(SETTLE).await;
            volumes.stop(SETTLE).await;
            custody.leave().await;
            audit.flush();
            return Err(handover::wait_anew());
        }
        Ended::Stopped(ended) => ended,
    };
    let left = leases.drain(DRAIN).await;
    if left > 0 {
        tracing::warn!(left, "revocations not done: the next driver does them");
    }
    drop(reload.await);
    audit.flush();
    volumes.stop(SETTLE).await;
    pulse.abort();
    custody.leave().await;
    ended
}

async fn pulse(custody: Custody) {
    let mut turn = tokio::time::interval(PULSE);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        turn.tick().await;
        custody.pulse();
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address} (--admin-listen)"))
}
