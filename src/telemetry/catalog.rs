//! Every metric once: name, kind, labels, meaning, and whether dashboards may rely on it.
//!
//! `metrics` registers from this table and `deploy/METRICS.md` is tested against it.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; exposed with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds in buckets.
    Histogram,
}

impl Kind {
    /// As the documentation writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name as exposed.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
    /// Whether its name and labels are kept in later versions.
    pub stable: bool,
}

const fn stable(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Entry {
    Entry { name, kind, labels, help, stable: true }
}

const fn unstable(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Entry {
    Entry { name, kind, labels, help, stable: false }
}

/// All of them, by name.
pub const CATALOG: &[Entry] = &[
    stable("keyhole_build_info", Kind::Gauge, &["version", "commit"], "Always 1; what is running"),
    stable(
        "keyhole_config_reloads_total",
        Kind::Counter,
        &["outcome"],
        "Changes of the configuration file: taken up, or refused because they were wrong",
    ),
    unstable(
        "keyhole_csi_operation_seconds",
        Kind::Histogram,
        &["method"],
        "How long kubelet waited",
    ),
    stable(
        "keyhole_csi_operations_total",
        Kind::Counter,
        &["method", "code"],
        "Calls of kubelet's, by gRPC code",
    ),
    stable(
        "keyhole_epoch",
        Kind::Gauge,
        &[],
        "Number of this driver among those of its keeper; 0 without",
    ),
    stable(
        "keyhole_fuse_mode",
        Kind::Gauge,
        &["mode"],
        "Always 1; what the kernel does with requests that a killed driver had read",
    ),
    stable(
        "keyhole_generation_switches_total",
        Kind::Counter,
        &[],
        "Times that the files of a volume changed under its pod",
    ),
    stable(
        "keyhole_keeper_connected",
        Kind::Gauge,
        &[],
        "1 when mounts outlive this driver, 0 when there is no keeper",
    ),
    stable("keyhole_leases", Kind::Gauge, &[], "Answers of Vault's that have a lease and are held"),
    stable(
        "keyhole_opens_total",
        Kind::Counter,
        &["outcome"],
        "Opens of files: served, denied by the gate, audited only, failed",
    ),
    stable(
        "keyhole_renewals_total",
        Kind::Counter,
        &["kind", "outcome"],
        "Renewals of sessions and leases",
    ),
    stable(
        "keyhole_revocations_total",
        Kind::Counter,
        &["outcome"],
        "Sessions ended with their pods",
    ),
    stable(
        "keyhole_revocations_waiting",
        Kind::Gauge,
        &[],
        "Sessions of ended pods that Vault has not been told of yet",
    ),
    stable(
        "keyhole_rotations_total",
        Kind::Counter,
        &["outcome"],
        "Moves of ..data: renamed, or changed without a word to watchers",
    ),
    stable("keyhole_sessions", Kind::Gauge, &[], "Vault tokens held"),
    stable(
        "keyhole_state_lost_total",
        Kind::Counter,
        &[],
        "Volumes and sessions of the driver before whose state could not be read",
    ),
    stable(
        "keyhole_state_swappable",
        Kind::Gauge,
        &[],
        "1 when the kernel has no memfd_secret, so that kept secrets could be swapped after a crash",
    ),
    stable(
        "keyhole_swept_total",
        Kind::Counter,
        &[],
        "Volumes that were ended because their pod had vanished",
    ),
    stable(
        "keyhole_takeovers_total",
        Kind::Counter,
        &[],
        "Volumes gone on with after another driver",
    ),
    unstable(
        "keyhole_vault_request_seconds",
        Kind::Histogram,
        &["connection", "kind"],
        "How long Vault took",
    ),
    stable(
        "keyhole_vault_requests_total",
        Kind::Counter,
        &["connection", "kind", "outcome"],
        "Requests to Vault",
    ),
    stable("keyhole_volumes", Kind::Gauge, &[], "Published volumes"),
];

/// Help of the metric called `name`.
pub fn help(name: &str) -> &'static str {
    CATALOG.iter().find(|entry| entry.name == name).map_or("", |entry| entry.help)
}
