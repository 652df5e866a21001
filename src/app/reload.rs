//! Takes up a changed configuration file, or a changed certificate that it names, without a restart.
//!
//! See [`follow`] first. A changed file that is wrong is reported with every mistake, and the
//! configuration in force stays. The driver's name cannot change while kubelet knows the old one.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::watch::ConfigFile;
use crate::spec::mistake::Mistake;
use crate::telemetry::metrics::Metrics;
use crate::vault::connections::Connections;

/// How often the files are looked at: some stats, no read unless one changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches until `stop`.
pub(super) async fn follow(
    mut file: ConfigFile,
    config: Arc<ArcSwap<Config>>,
    connections: Arc<Connections>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let Some(outcome) = file.poll() else { continue };
        match outcome.and_then(|newer| take_up(newer, &config, &connections)) {
            Ok(()) => {
                metrics.config_reload(true);
                tracing::info!("the configuration changed and is taken up");
            }
            Err(mistakes) => {
                metrics.config_reload(false);
                for mistake in mistakes {
                    tracing::error!(%mistake, "the changed configuration is wrong; the old one stays in force");
                }
            }
        }
    }
}

fn take_up(
    newer: Config,
    config: &ArcSwap<Config>,
    connections: &Connections,
) -> Result<(), Vec<Mistake>> {
    if newer.driver_name != config.load().driver_name {
        return Err(vec![Mistake {
            place: "driverName".to_owned(),
            what: "kubelet knows the driver by its old name".to_owned(),
            instead: "restart the driver to rename it".to_owned(),
        }]);
    }
    connections.replace(&newer)?;
    config.store(Arc::new(newer));
    Ok(())
}
