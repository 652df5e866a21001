//! A JSON value that keeps what Vault wrote: numbers stay text, strings are wiped.

/// A JSON value.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Json {
    /// null.
    #[default]
    Null,
}

/// Why bytes are not JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at byte {at}")]
pub struct JsonError {
    /// Byte offset.
    pub at: usize,
}

impl Json {
    /// Parses.
    pub fn parse(_bytes: &[u8]) -> Result<Self, JsonError> {
        Err(JsonError { at: 0 })
    }
    /// A field.
    pub fn get(&self, _key: &str) -> Option<&Self> {
        None
    }
    /// Takes a field out; null when absent.
    pub fn take(&mut self, _key: &str) -> Self {
        Self::Null
    }
    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        None
    }
    /// A number.
    pub fn as_u64(&self) -> Option<u64> {
        None
    }
    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        None
    }
}
