//! [`Json`]: a JSON value that keeps what Vault wrote: numbers stay text, strings are wiped.
//!
//! See [`Json::parse`] first: a total parser, bounded in depth; its errors tell where, never what.
//! [`Json::write_compact`] prints as Go's encoding/json prints a map, so that `format: json` looks as
//! Vault Agent's `toUnescapedJSON` does. It cannot be printed by accident: no `Debug`.

mod parse;

use zeroize::Zeroize;

/// A JSON value.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Json {
    /// `null`, or nothing there.
    #[default]
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number, as it was written: `1.50` stays `1.50`.
    Number(String),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Json>),
    /// An object, in the order in which it was written; of equal keys the last counts.
    Object(Vec<(String, Json)>),
}

/// Why bytes are not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {what} at byte {at}")]
pub struct JsonError {
    /// Byte offset.
    pub at: usize,
    /// What was expected or found.
    pub what: &'static str,
}

impl Json {
    /// Parses one value that fills all of `bytes`.
    ///
    /// # Errors
    /// It is not JSON, not UTF-8, or nested deeper than 64 levels.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        parse::parse(bytes)
    }

    /// The value of `key`, when this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.iter().rev().find(|(had, _)| had == key).map(|(_, value)| value)
    }

    /// Takes the value of `key` out; null when it is not there.
    pub fn take(&mut self, key: &str) -> Self {
        match self {
            Self::Object(fields) => fields
                .iter_mut()
                .rev()
                .find(|(had, _)| had == key)
                .map(|(_, value)| std::mem::take(value))
                .unwrap_or_default(),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_) => {
                Self::Null
            }
        }
    }

    /// The string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The number, when it is a whole one that fits.
    pub fn as_u64(&self) -> Option<u64> {
        if let Self::Number(text) = self { text.parse().ok() } else { None }
    }

    /// The boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The list.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// The fields, as written.
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        if let Self::Object(fields) = self { Some(fields) } else { None }
    }

    /// The fields by name, each once, sorted as Go sorts a map's keys.
    pub fn sorted(&self) -> Vec<(&str, &Self)> {
        let fields = self.as_object().unwrap_or_default();
        let sorted: std::collections::BTreeMap<&str, &Self> =
            fields.iter().map(|(key, value)| (key.as_str(), value)).collect();
        sorted.into_iter().collect()
    }

    /// Prints without spaces, keys sorted, numbers as written; `<`, `>` and `&` stay as they are.
    pub fn write_compact(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => {
                out.extend_from_slice(if *value { b"true".as_slice() } else { b"false" });
            }
            Self::Number(text) => out.extend_from_slice(text.as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(values) => {
                out.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    value.write_compact(out);
                }
                out.push(b']');
            }
            Self::Object(_) => {
                out.push(b'{');
                for (at, (key, value)) in self.sorted().into_iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write_compact(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// As Go's encoding/json without HTML escaping: U+2028 and U+2029 are escaped, other text is not.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            plain => out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

impl Drop for Json {
    fn drop(&mut self) {
        match self {
            Self::Number(text) | Self::String(text) => text.zeroize(),
            Self::Null | Self::Bool(_) | Self::Array(_) | Self::Object(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "json/tests.rs"]
mod tests;
