//! The driver's configuration: what it may connect to, checked whole before anything starts.
//!
//! See [`Config`] first; `file` reads it from YAML and finds every mistake with its line. A pod never
//! supplies an address: it names a connection of this file.

pub mod file;
pub mod globs;
mod section;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::fs::serve::Gate;
use crate::identity::session::AuthMethod;
use crate::spec::attributes::{ConnectionDefaults, Defaults};

/// The configuration file, checked and defaulted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the CSI driver; `csi.keyhole.dev`.
    pub driver_name: String,
    /// Connection of a volume that names none; with one connection, that one.
    pub default_vault: Option<String>,
    /// Connections by name.
    pub vaults: BTreeMap<String, Connection>,
}

/// One Vault or OpenBao, how to trust it, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `https://vault:8200`, with an optional path prefix; no trailing `/`.
    pub address: String,
    /// CA bundle (PEM) that alone is trusted; `None` for the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// Client certificate (PEM), with its key.
    pub client_cert_file: Option<PathBuf>,
    /// Client key (PEM).
    pub client_key_file: Option<PathBuf>,
    /// Name in Vault's certificate, when it is not the address's.
    pub tls_server_name: Option<String>,
    /// Default namespace; empty for none.
    pub namespace: String,
    /// Default auth method.
    pub auth_method: AuthMethod,
    /// Default auth path; by default the method's name.
    pub auth_path: String,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How much of Vault one node may use.
    pub budget: Budget,
    /// Namespaces whose pods may use it, as globs (`*`, `?`); empty for all.
    pub allowed_namespaces: Vec<String>,
    /// Roles that pods may name, as globs; empty for all.
    pub allowed_roles: Vec<String>,
    /// What the gate does.
    pub gate: Gate,
}

/// How long to wait for Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS; 2 s.
    pub connect: Duration,
    /// One request, from sending to the last byte; 5 s.
    pub request: Duration,
}

/// How much of Vault one node may use over one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Requests under way at once; 64.
    pub in_flight: u32,
    /// Requests per second, averaged over a second; 200.
    pub per_second: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), request: Duration::from_secs(5) }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { in_flight: 64, per_second: 200 }
    }
}

impl Config {
    /// The connection of this name.
    pub fn connection(&self, name: &str) -> Option<&Connection> {
        self.vaults.get(name)
    }

    /// What volumes get that do not say otherwise.
    pub fn defaults(&self) -> Defaults {
        let connections = self.vaults.iter().map(|(name, connection)| {
            let defaults = ConnectionDefaults {
                namespace: connection.namespace.clone(),
                auth_method: connection.auth_method,
                auth_path: connection.auth_path.clone(),
            };
            (name.clone(), defaults)
        });
        Defaults { connection: self.default_vault.clone(), connections: connections.collect() }
    }
}
