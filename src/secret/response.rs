//! [`SecretResponse`]: Vault's answer, the whole envelope kept as it came.
//!
//! The bytes are Vault's own, so that a number keeps its text (`1.50`, twenty digits) and a file of
//! `format: json` can show everything. It cannot be printed; it is wiped when the last reader goes.

use crate::redact::SecretBytes;
use crate::secret::json::{Json, JsonError};
use crate::secret::store::LeaseTerms;

/// Vault's answer to one [`super::request::SecretRequest`].
pub struct SecretResponse {
    /// The lease that came with it.
    pub terms: LeaseTerms,
    /// `data.metadata.version` of KV 2.
    pub version: Option<u64>,
    /// Whether the secret's fields are in `data.data` (KV 2) or in `data`.
    pub kv2: bool,
    body: SecretBytes,
}

impl SecretResponse {
    /// Reads the envelope of a successful answer.
    ///
    /// # Errors
    /// The body is not a JSON object with the fields of Vault's envelope. The error tells where,
    /// never what.
    pub fn parse(body: SecretBytes, kv2: bool) -> Result<Self, JsonError> {
        let envelope = Json::parse(body.expose())?;
        let terms = LeaseTerms {
            id: envelope.get("lease_id").and_then(Json::as_str).unwrap_or_default().to_owned(),
            duration: std::time::Duration::from_secs(
                envelope.get("lease_duration").and_then(Json::as_u64).unwrap_or_default(),
            ),
            renewable: envelope.get("renewable").and_then(Json::as_bool).unwrap_or_default(),
        };
        let version = envelope
            .get("data")
            .and_then(|data| data.get("metadata"))
            .and_then(|metadata| metadata.get("version"))
            .and_then(Json::as_u64)
            .filter(|_| kv2);
        Ok(Self { terms, version, kv2, body })
    }

    /// The whole envelope, as Vault sent it.
    pub fn envelope(&self) -> &[u8] {
        self.body.expose()
    }

    /// The secret's fields: `data.data` of KV 2, else `data`; `Json::Null` when Vault sent none.
    ///
    /// # Errors
    /// As [`Self::parse`], which has already read the same bytes: not in practice.
    pub fn data(&self) -> Result<Json, JsonError> {
        let mut envelope = Json::parse(self.body.expose())?;
        let mut data = envelope.take("data");
        Ok(if self.kv2 { data.take("data") } else { data })
    }

    /// Whether both answers hold the same secret: Vault gives every answer a new `request_id`.
    pub fn same_secret(&self, other: &Self) -> bool {
        let data =
            |response: &Self| Json::parse(response.envelope()).map(|mut had| had.take("data"));
        match (data(self), data(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
    }
}
