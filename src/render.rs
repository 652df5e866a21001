//! From Vault's answer to the bytes of a file. Pure, total, bounded; errors never carry a value.
//!
//! See [`render`] first.

use std::collections::BTreeMap;

use crate::redact::SecretBytes;
use crate::secret::response::SecretResponse;
use crate::spec::FileSpec;

/// The most bytes one file, or one folder in all, may have.
pub const MAX_BYTES: usize = 1024 * 1024;

/// What a file of the spec shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Rendered {
    /// One file.
    File(SecretBytes),
    /// A folder with one file per field, by field name.
    Folder(BTreeMap<String, SecretBytes>),
}

/// Why an answer does not make a file. Never carries a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The answer has no such field; the ones it has are named.
    #[error("the secret has no field {field:?}; it has {}", .has.join(", "))]
    NoField {
        /// What the volume asked for.
        field: String,
        /// Field names of the answer.
        has: Vec<String>,
    },
    /// A KV 2 version that was deleted or destroyed, or an answer without data.
    #[error("the answer has no data (a deleted version?)")]
    NoData,
    /// A field's name cannot be a file's name.
    #[error("the field {field:?} cannot be a file name")]
    FieldName {
        /// The field.
        field: String,
    },
    /// `encoding: base64`, and the value is not base64.
    #[error("the field {field:?} is not valid base64")]
    NotBase64 {
        /// The field.
        field: String,
    },
    /// The fields do not fit the format (dotenv and properties hold no line breaks in names, …).
    #[error("the field {field:?} does not fit {format}")]
    DoesNotFit {
        /// The field.
        field: String,
        /// The format's name.
        format: &'static str,
    },
    /// Over the limit.
    #[error("{bytes} bytes are more than the {MAX_BYTES} a file may have")]
    TooLarge {
        /// How many it would be.
        bytes: usize,
    },
    /// The answer is not what Vault's API promises.
    #[error("the answer cannot be read: {why}")]
    Malformed {
        /// Where; never what.
        why: String,
    },
}
