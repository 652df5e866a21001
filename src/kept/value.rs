//! A kept value: what it says about itself as JSON, and bytes as they are.
//!
//! JSON, because fields can be added in a later version and ignored by an earlier one; secrets are only in the
//! bytes, so that no JSON text of one is ever made.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::redact::SecretBytes;

/// Puts both together.
pub fn encode(meta: &impl Serialize, raw: &[u8]) -> SecretBytes {
    // Structs of numbers, names and times always serialize.
    let meta = serde_json::to_vec(meta).unwrap_or_default();
    let mut value = Vec::with_capacity(4 + meta.len() + raw.len());
    value.extend(u32::try_from(meta.len()).unwrap_or_default().to_le_bytes());
    value.extend(&meta);
    value.extend(raw);
    SecretBytes::new(value)
}

/// Takes them apart; `None` for what this version cannot read.
pub fn decode<M: DeserializeOwned>(value: &SecretBytes) -> Option<(M, &[u8])> {
    let (length, rest) = value.expose().split_first_chunk::<4>()?;
    let (meta, raw) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((serde_json::from_slice(meta).ok()?, raw))
}
