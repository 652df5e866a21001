//! [`Metrics`]: the figures, each declared in `catalog`. Cheap to clone; labels come from fixed words.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::telemetry::catalog::help;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    method: &'static str,
    code: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VaultRequest {
    connection: String,
    kind: &'static str,
    outcome: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VaultTime {
    connection: String,
    kind: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Renewal {
    kind: &'static str,
    outcome: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mode {
    mode: &'static str,
}
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    commit: &'static str,
}

type Timer<L> = Family<L, Histogram, fn() -> Histogram>;

struct Inner {
    registry: Registry,
    operations: Family<Operation, Counter>,
    operation_seconds: Timer<Method>,
    vault_requests: Family<VaultRequest, Counter>,
    vault_seconds: Timer<VaultTime>,
    opens: Family<Outcome, Counter>,
    renewals: Family<Renewal, Counter>,
    revocations: Family<Outcome, Counter>,
    reloads: Family<Outcome, Counter>,
    switches: Counter,
    volumes: Gauge,
    sessions: Gauge,
    leases: Gauge,
    revocations_waiting: Gauge,
    epoch: Gauge,
    keeper: Gauge,
    swappable: Gauge,
    mode: Family<Mode, Gauge>,
    rotations: Family<Outcome, Counter>,
    state_lost: Counter,
    swept: Counter,
    takeovers: Counter,
}

/// The figures of one driver.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// From 0.25 ms to 8 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.00025, 2.0, 16))
}

fn timer<L: Clone + std::hash::Hash + Eq>() -> Timer<L> {
    Family::new_with_constructor(seconds as fn() -> Histogram)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let inner = Inner {
            registry: Registry::default(),
            operations: Family::default(),
            operation_seconds: timer(),
            vault_requests: Family::default(),
            vault_seconds: timer(),
            opens: Family::default(),
            renewals: Family::default(),
            revocations: Family::default(),
            reloads: Family::default(),
            switches: Counter::default(),
            volumes: Gauge::default(),
            sessions: Gauge::default(),
            leases: Gauge::default(),
            revocations_waiting: Gauge::default(),
            epoch: Gauge::default(),
            keeper: Gauge::default(),
            swappable: Gauge::default(),
            mode: Family::default(),
            rotations: Family::default(),
            state_lost: Counter::default(),
            swept: Counter::default(),
            takeovers: Counter::default(),
        };
        // What has not happened yet is 0, not absent: rates and alerts need a first value.
        for outcome in ["taken_up", "refused"] {
            drop(inner.reloads.get_or_create(&Outcome { outcome }));
        }
        for outcome in ["renamed", "silent"] {
            drop(inner.rotations.get_or_create(&Outcome { outcome }));
        }
        for outcome in [word(true), word(false)] {
            drop(inner.revocations.get_or_create(&Outcome { outcome }));
            for kind in ["session", "lease"] {
                drop(inner.renewals.get_or_create(&Renewal { kind, outcome }));
            }
        }
        let build = Family::<Build, Gauge>::default();
        build
            .get_or_create(&Build {
                version: env!("CARGO_PKG_VERSION"),
                commit: env!("KEYHOLE_COMMIT"),
            })
            .set(1);
        let mut registry = Registry::default();
        let mut add = |name: &'static str, metric: Add| {
            // The text format adds `_total` to counters by itself.
            metric(&mut registry, name.trim_end_matches("_total"), help(name));
        };
        add("keyhole_build_info", own(build));
        add("keyhole_config_reloads_total", own(inner.reloads.clone()));
        add("keyhole_csi_operation_seconds", own(inner.operation_seconds.clone()));
        add("keyhole_csi_operations_total", own(inner.operations.clone()));
        add("keyhole_epoch", own(inner.epoch.clone()));
        add("keyhole_fuse_mode", own(inner.mode.clone()));
        add("keyhole_generation_switches_total", own(inner.switches.clone()));
        add("keyhole_keeper_connected", own(inner.keeper.clone()));
        add("keyhole_leases", own(inner.leases.clone()));
        add("keyhole_opens_total", own(inner.opens.clone()));
        add("keyhole_renewals_total", own(inner.renewals.clone()));
        add("keyhole_revocations_total", own(inner.revocations.clone()));
        add("keyhole_revocations_waiting", own(inner.revocations_waiting.clone()));
        add("keyhole_rotations_total", own(inner.rotations.clone()));
        add("keyhole_sessions", own(inner.sessions.clone()));
        add("keyhole_state_lost_total", own(inner.state_lost.clone()));
        add("keyhole_state_swappable", own(inner.swappable.clone()));
        add("keyhole_swept_total", own(inner.swept.clone()));
        add("keyhole_takeovers_total", own(inner.takeovers.clone()));
        add("keyhole_vault_request_seconds", own(inner.vault_seconds.clone()));
        add("keyhole_vault_requests_total", own(inner.vault_requests.clone()));
        add("keyhole_volumes", own(inner.volumes.clone()));
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// In the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// One call of kubelet's.
    pub fn csi_operation(&self, method: &'static str, code: &'static str, took: Duration) {
        self.0.operations.get_or_create(&Operation { method, code }).inc();
        self.0.operation_seconds.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }

    /// One open of a file: `served`, `denied`, `audited`, `failed`.
    pub fn open(&self, outcome: &'static str) {
        self.0.opens.get_or_create(&Outcome { outcome }).inc();
    }

    /// The configuration file changed.
    pub fn config_reload(&self, taken_up: bool) {
        let outcome = if taken_up { "taken_up" } else { "refused" };
        self.0.reloads.get_or_create(&Outcome { outcome }).inc();
    }

    /// The files of a volume changed.
    pub fn switched(&self) {
        self.0.switches.inc();
    }

    /// What the kernel does with requests that a killed driver had read.
    pub fn set_mode(&self, mode: &'static str) {
        self.0.mode.get_or_create(&Mode { mode }).set(1);
    }

    /// Whether there is a keeper, and the number of this driver there.
    pub fn set_keeper(&self, connected: bool, epoch: u64) {
        self.0.keeper.set(i64::from(connected));
        self.0.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// Whether what is kept could be swapped.
    pub fn set_swappable(&self, swappable: bool) {
        self.0.swappable.set(i64::from(swappable));
    }

    /// `..data` of a volume was moved: by a rename, or without one.
    pub fn rotated(&self, renamed: bool) {
        let outcome = if renamed { "renamed" } else { "silent" };
        self.0.rotations.get_or_create(&Outcome { outcome }).inc();
    }

    /// Something of the driver before could not be read.
    pub fn state_lost(&self) {
        self.0.state_lost.inc();
    }

    /// A volume of a vanished pod was ended.
    pub fn swept(&self) {
        self.0.swept.inc();
    }

    /// A volume of the driver before is served.
    pub fn taken_over(&self) {
        self.0.takeovers.inc();
    }

    /// How many volumes are published.
    pub fn set_volumes(&self, count: usize) {
        set(&self.0.volumes, count);
    }
}

impl crate::lease::Observe for Metrics {
    fn vault_request(
        &self,
        connection: &str,
        kind: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let connection = connection.to_owned();
        self.0
            .vault_seconds
            .get_or_create(&VaultTime { connection: connection.clone(), kind })
            .observe(took.as_secs_f64());
        self.0.vault_requests.get_or_create(&VaultRequest { connection, kind, outcome }).inc();
    }

    fn renewal(&self, kind: &'static str, ok: bool) {
        self.0.renewals.get_or_create(&Renewal { kind, outcome: word(ok) }).inc();
    }

    fn revocation(&self, ok: bool) {
        self.0.revocations.get_or_create(&Outcome { outcome: word(ok) }).inc();
    }

    fn held(&self, sessions: usize, leases: usize, revocations_waiting: usize) {
        set(&self.0.sessions, sessions);
        set(&self.0.leases, leases);
        set(&self.0.revocations_waiting, revocations_waiting);
    }
}

fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

fn set(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Adds a metric to the registry under a name and with a text.
type Add = Box<dyn FnOnce(&mut Registry, &str, &str)>;

fn own(metric: impl Metric) -> Add {
    Box::new(move |registry, name, help| registry.register(name, help, metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Observe as _;
    use crate::telemetry::catalog::CATALOG;

    #[test]
    fn the_catalogue_and_the_registry_and_the_document_agree() {
        let metrics = Metrics::new();
        metrics.csi_operation("NodePublishVolume", "OK", Duration::from_millis(3));
        metrics.open("served");
        metrics.config_reload(true);
        metrics.vault_request("main", "read", "ok", Duration::from_millis(3));
        metrics.renewal("lease", true);
        metrics.revocation(false);
        metrics.set_mode("resend");
        let text = metrics.text();
        let mut exposed: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        exposed.sort_unstable();
        let declared: Vec<&str> =
            CATALOG.iter().map(|entry| entry.name.trim_end_matches("_total")).collect();
        assert_eq!(exposed, declared);
        for entry in CATALOG {
            for label in entry.labels {
                assert!(text.contains(&format!("{label}=\"")), "{} has {label}", entry.name);
            }
        }

        let document = include_str!("../../deploy/METRICS.md");
        let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
        let wanted: Vec<String> = CATALOG
            .iter()
            .map(|entry| {
                let labels = entry.labels.join(", ");
                let stable = if entry.stable { "yes" } else { "no" };
                format!(
                    "| `{}` | {} | {labels} | {stable} | {} |",
                    entry.name,
                    entry.kind.as_str(),
                    entry.help
                )
            })
            .collect();
        assert_eq!(rows, wanted, "deploy/METRICS.md");
    }
}
