//! From Vault's answer to the bytes of a file. Pure, total, bounded; errors never carry a value.
//!
//! See [`render`] first. What a field shows when it is no string: its JSON, compact, keys sorted,
//! numbers as Vault wrote them; so does Vault Agent's `{{ .Data.x | toJSON }}`.

mod formats;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::redact::SecretBytes;
use crate::secret::json::Json;
use crate::secret::response::SecretResponse;
use crate::spec::{Encoding, Field, FileSpec, Format};

/// The most bytes one file, or one folder in all, may have.
pub const MAX_BYTES: usize = 1024 * 1024;
/// The most files one `field: *` folder may have.
pub const MAX_FIELDS: usize = 4096;

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
    /// `field: *` of a secret with too many fields.
    #[error("{count} fields are more than the {MAX_FIELDS} files a folder may have")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The answer is not what Vault's API promises.
    #[error("the answer cannot be read: {why}")]
    Malformed {
        /// Where; never what.
        why: String,
    },
}

/// Makes the bytes of `file` out of Vault's answer.
///
/// # Errors
/// The answer has not what the file is to show.
pub fn render(file: &FileSpec, response: &SecretResponse) -> Result<Rendered, RenderError> {
    if file.format == Format::Raw && file.field == Field::All {
        return one(response.envelope().to_vec());
    }
    let data =
        response.data().map_err(|error| RenderError::Malformed { why: error.to_string() })?;
    let Some(_) = data.as_object() else {
        return Err(match data {
            Json::Null => RenderError::NoData,
            Json::Bool(_)
            | Json::Number(_)
            | Json::String(_)
            | Json::Array(_)
            | Json::Object(_) => RenderError::Malformed { why: "its data is no object".to_owned() },
        });
    };
    match &file.field {
        Field::All => one(formats::all(file.format, &data)?),
        Field::One(field) => {
            let Some(value) = data.get(field) else {
                let has = data.sorted().into_iter().map(|(name, _)| name.to_owned()).collect();
                return Err(RenderError::NoField { field: field.clone(), has });
            };
            one(decoded(file.encoding, field, value)?)
        }
        Field::Each => folder(file.encoding, &data),
    }
}

fn one(bytes: Vec<u8>) -> Result<Rendered, RenderError> {
    let bytes = SecretBytes::new(bytes);
    let length = bytes.expose().len();
    if length > MAX_BYTES {
        return Err(RenderError::TooLarge { bytes: length });
    }
    Ok(Rendered::File(bytes))
}

fn folder(encoding: Encoding, data: &Json) -> Result<Rendered, RenderError> {
    let fields = data.sorted();
    if fields.len() > MAX_FIELDS {
        return Err(RenderError::TooMany { count: fields.len() });
    }
    let mut folder = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in fields {
        let plain = !matches!(name, "" | "." | "..") && name.len() <= 255;
        if !plain || name.contains(['/', '\0']) {
            return Err(RenderError::FieldName { field: name.to_owned() });
        }
        let value = SecretBytes::new(decoded(encoding, name, value)?);
        bytes += value.expose().len();
        if bytes > MAX_BYTES {
            return Err(RenderError::TooLarge { bytes });
        }
        folder.insert(name.to_owned(), value);
    }
    Ok(Rendered::Folder(folder))
}

fn decoded(encoding: Encoding, field: &str, value: &Json) -> Result<Vec<u8>, RenderError> {
    let text = Zeroizing::new(plain(value));
    match encoding {
        Encoding::Plain => Ok(text.to_vec()),
        Encoding::Base64 => STANDARD
            .decode(text.trim_ascii())
            .map_err(|_| RenderError::NotBase64 { field: field.to_owned() }),
    }
}

/// A string as it is; anything else as JSON; null as nothing.
fn plain(value: &Json) -> Vec<u8> {
    match value {
        Json::Null => Vec::new(),
        Json::String(text) => text.as_bytes().to_vec(),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            let mut out = Vec::new();
            value.write_compact(&mut out);
            out
        }
    }
}

#[cfg(test)]
#[path = "render/tests.rs"]
mod tests;
