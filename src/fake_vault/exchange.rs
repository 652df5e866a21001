//! [`Asked`] and [`Answer`]: a request and its answer, without HTTP.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A request.
pub(super) struct Asked {
    /// `GET`, `LIST`, `POST` (`PUT` is the same), `DELETE`.
    pub(super) method: String,
    /// `X-Vault-Namespace`, without slashes at its ends.
    pub(super) namespace: String,
    /// Below `/v1/`.
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    /// `X-Vault-Token`.
    pub(super) token: Option<String>,
    /// The JSON body; null when there is none.
    pub(super) body: Value,
}

impl Asked {
    /// A text of the body; empty when it is absent or no text.
    pub(super) fn text(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A duration of the body, in seconds: a number, or text like `30s`.
    pub(super) fn seconds(&self, key: &str) -> Option<u64> {
        match self.body.get(key)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => {
                let plain = text.parse().ok();
                let spelled = || crate::spec::values::duration(text).ok().map(|had| had.as_secs());
                plain.or_else(spelled)
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// A list of texts: a JSON list, or one text with commas.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        match self.body.get(key) {
            Some(Value::Array(items)) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(Value::String(text)) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn is_write(&self) -> bool {
        self.method == "POST"
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// Refusals are answers too; this lets `?` end a handler with one.
pub(super) type Answered = Result<Answer, Answer>;

impl Answer {
    /// 204.
    pub(super) fn done() -> Self {
        Self { status: 204, body: Value::Null }
    }

    /// 200 with `data`, and no lease.
    pub(super) fn data(data: Value) -> Self {
        Self::leased(data, "", 0, false)
    }

    /// 200 with `data` and a lease.
    pub(super) fn leased(data: Value, id: &str, seconds: u64, renewable: bool) -> Self {
        Self { status: 200, body: envelope(data, id, seconds, renewable, Value::Null) }
    }

    /// 200 with `auth`.
    pub(super) fn auth(auth: Value) -> Self {
        Self { status: 200, body: envelope(Value::Null, "", 0, false, auth) }
    }

    /// An error with Vault's `errors`; none for an empty text.
    pub(super) fn error(status: u16, said: &str) -> Self {
        let errors: Vec<&str> = if said.is_empty() { Vec::new() } else { vec![said] };
        Self { status, body: json!({ "errors": errors }) }
    }

    pub(super) fn bad_request(said: &str) -> Self {
        Self::error(400, said)
    }

    pub(super) fn denied() -> Self {
        Self::error(403, "permission denied")
    }

    pub(super) fn missing() -> Self {
        Self::error(404, "")
    }

    pub(super) fn unsupported() -> Self {
        Self::error(405, "unsupported operation")
    }
}

fn envelope(data: Value, id: &str, seconds: u64, renewable: bool, auth: Value) -> Value {
    json!({
        "request_id": "00000000-0000-4000-8000-000000000000",
        "lease_id": id,
        "renewable": renewable,
        "lease_duration": seconds,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": auth,
    })
}
