//! What an answer means: the one table from HTTP status to [`StoreError`], and Vault's own words.

use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::secret::json::Json;
use crate::secret::store::StoreError;
use crate::vault::transport::Reply;

/// The most characters of somebody else's text that we repeat.
const MOST: usize = 300;

/// The answer if it is a success, else what it says.
/// <https://developer.hashicorp.com/vault/api-docs#http-status-codes>
pub(super) fn success(reply: Reply) -> Result<Reply, StoreError> {
    let status = reply.status;
    if status.is_success() {
        return Ok(reply);
    }
    let said = said(&reply);
    Err(match status {
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => StoreError::BadRequest { said },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreError::Denied { said },
        StatusCode::NOT_FOUND => StoreError::Missing { said },
        StatusCode::PRECONDITION_FAILED => StoreError::Lagging { said },
        StatusCode::TOO_MANY_REQUESTS => {
            let after = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let seconds = after.and_then(|text| text.trim().parse().ok());
            StoreError::Throttled { retry_after: seconds.map(Duration::from_secs), said }
        }
        StatusCode::SERVICE_UNAVAILABLE if said.contains("sealed") => StoreError::Sealed { said },
        other if other.is_client_error() => StoreError::BadRequest { said },
        other => StoreError::Failed { status: other.as_u16(), said },
    })
}

/// `errors` of Vault's body; of a deleted KV 2 version what its metadata says; else the page's start.
fn said(reply: &Reply) -> String {
    let Ok(body) = Json::parse(reply.body.expose()) else {
        return clean(&String::from_utf8_lossy(reply.body.expose()));
    };
    let errors = body.get("errors").and_then(Json::as_array).unwrap_or_default();
    let errors: Vec<&str> = errors.iter().filter_map(Json::as_str).map(str::trim).collect();
    if !errors.is_empty() {
        return clean(&errors.join("; "));
    }
    let metadata = body.get("data").and_then(|data| data.get("metadata"));
    let deleted = metadata.and_then(|had| had.get("deletion_time")).and_then(Json::as_str);
    let destroyed = metadata.and_then(|had| had.get("destroyed")).and_then(Json::as_bool);
    match (deleted, destroyed) {
        (_, Some(true)) => "this version was destroyed".to_owned(),
        (Some(at), _) if !at.is_empty() => clean(&format!("this version was deleted at {at}")),
        _ => "no more is said".to_owned(),
    }
}

/// On one line, without control characters, cut.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|w| !w.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    if out.chars().count() > MOST {
        out = out.chars().take(MOST).chain("…".chars()).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::redact::SecretBytes;

    fn error(status: u16, body: &str) -> StoreError {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let status = StatusCode::from_u16(status).unwrap();
        let body = SecretBytes::new(body.into());
        success(Reply { status, headers, body }).err().unwrap()
    }

    #[test]
    fn each_status_has_its_meaning() {
        let errors = r#"{"errors":["one\n","two"]}"#;
        let said = || "one two".replace(' ', "; ");
        assert_eq!(error(400, errors), StoreError::BadRequest { said: said() });
        assert_eq!(error(403, errors), StoreError::Denied { said: said() });
        assert_eq!(error(404, errors), StoreError::Missing { said: said() });
        assert_eq!(error(412, errors), StoreError::Lagging { said: said() });
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(error(429, errors), StoreError::Throttled { retry_after, said: said() });
        assert_eq!(error(500, errors), StoreError::Failed { status: 500, said: said() });
        assert_eq!(error(473, errors), StoreError::BadRequest { said: said() });
        let sealed = r#"{"errors":["Vault is sealed"]}"#;
        assert_eq!(error(503, sealed), StoreError::Sealed { said: "Vault is sealed".into() });
    }

    #[test]
    fn pages_are_cut_and_deleted_versions_explained() {
        let page = format!("<html>\n<b>Bad</b>\u{7} {}", "x".repeat(1000));
        let StoreError::Failed { status: 502, said } = error(502, &page) else { panic!("no 502") };
        assert!(said.starts_with("<html> <b>Bad</b> xxx"), "{said}");
        assert_eq!(said.chars().count(), MOST + 1);
        let deleted = r#"{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z","destroyed":false}}}"#;
        let said = "this version was deleted at 2026-01-01T00:00:00Z".to_owned();
        assert_eq!(error(404, deleted), StoreError::Missing { said });
    }
}
