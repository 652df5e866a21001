//! What a pod asked for: volume attributes become one immutable [`VolumeSpec`].
//!
//! See [`attributes`] first: it owns every key and its meaning. A volume is parsed once, at publish;
//! nothing later reads the attributes again. Parsing returns every mistake at once.

pub mod attributes;
mod file;
pub mod mistake;
mod names;
pub mod values;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::session::AuthMethod;
use crate::secret::request::SecretRequest;

/// A volume, parsed, defaulted and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Vault role.
    pub role: String,
    /// Name of the connection in the driver's configuration.
    pub connection: String,
    /// Vault namespace; empty for none.
    pub namespace: String,
    /// kubernetes or jwt.
    pub auth_method: AuthMethod,
    /// Where the auth method is mounted, below `auth/`.
    pub auth_path: String,
    /// Audience of the service-account token.
    pub audience: String,
    /// What happens before the pod starts.
    pub on_start: OnStart,
    /// The files, sorted by name; between 1 and 256.
    pub files: Vec<FileSpec>,
}

impl VolumeSpec {
    /// Of a volume that is there, and of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            role: String::new(),
            connection: String::new(),
            namespace: String::new(),
            auth_method: AuthMethod::default(),
            auth_path: String::new(),
            audience: String::new(),
            on_start: OnStart::Lazy,
            files: Vec::new(),
        }
    }
}

/// What publish does about Vault before the pod may start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStart {
    /// Log in, with a short deadline; only a definite no stops the pod.
    #[default]
    Check,
    /// No call.
    Lazy,
    /// Every file is rendered before the pod starts.
    Fetch,
}

/// One file of a volume, or one folder with a file per field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Name relative to the volume's root; may hold folders: `tls/app.crt`.
    pub name: String,
    /// What Vault is asked.
    pub secret: SecretRequest,
    /// What of the answer the file shows.
    pub field: Field,
    /// How it shows it. Ignored for a single field, which is shown as it is.
    pub format: Format,
    /// Whether the value is decoded first.
    pub encoding: Encoding,
    /// Permission bits, e.g. 0o444.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How often to ask again what has no lease; `None` for never.
    pub refresh: Option<Duration>,
}

/// What of the answer a file shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// All fields, in the file's format.
    #[default]
    All,
    /// One field.
    One(String),
    /// `*`: the name is a folder with one file per field.
    Each,
}

/// How a file shows all fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The fields as one JSON object.
    #[default]
    Json,
    /// Vault's whole answer, byte for byte.
    Raw,
    /// `KEY="value"` lines.
    Dotenv,
    /// Java properties.
    Properties,
    /// A YAML mapping.
    Yaml,
}

/// Whether a field's value is decoded before it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Shown as it is.
    #[default]
    Plain,
    /// The value is base64; the file holds the bytes.
    Base64,
}
