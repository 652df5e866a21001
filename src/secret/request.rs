//! [`SecretRequest`]: one question to Vault, as written in a volume.
//!
//! Two requests that compare equal get one response per pod: that is how a certificate and its key,
//! in two files, match.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a secret is asked for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// HTTP GET: KV, database credentials, most engines.
    #[default]
    Read,
    /// HTTP PUT with arguments, whose answer is the secret: `pki/issue`, `transit/datakey`.
    Write,
}

/// One question to Vault: what it is asked, and so what its answer is filed under.
///
/// `path` has no leading `/`, no empty, `.` or `..` part and no query; `spec` checks that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretRequest {
    /// How to ask.
    pub verb: Verb,
    /// The path after `/v1/`, e.g. `secret/data/app` (`data/` may be left out, as in Vault Agent).
    pub path: String,
    /// Query parameters, e.g. `version=3`.
    pub query: BTreeMap<String, String>,
    /// Body of a write, e.g. `common_name=app`.
    pub args: BTreeMap<String, String>,
}

impl SecretRequest {
    /// A plain read of `path`.
    pub fn read(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}
