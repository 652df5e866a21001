//! [`Body`]: what is written down of a volume at its publish, and never changes: no secret.
//!
//! Fields may be added; a reader ignores what it does not know and fills in what is missing. A change that an
//! earlier version must not ignore raises `least_reader`.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::identity::pod::PodRef;
use crate::identity::session::SessionKey;
use crate::spec::VolumeSpec;

/// What this version writes and understands.
pub(super) const FORMAT: u32 = 1;

/// One volume.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) format: u32,
    /// The least format that a reader must understand.
    pub(super) least_reader: u32,
    /// Kubelet's id.
    pub(super) id: String,
    pub(super) target: PathBuf,
    pub(super) pod: PodRef,
    pub(super) session: SessionKey,
    /// The name that its session is kept under.
    pub(super) holding: String,
    pub(super) spec: VolumeSpec,
    pub(super) born: SystemTime,
    /// The names in the root, for the responder, which knows nothing of specs.
    pub(super) names: Vec<String>,
}

impl Body {
    /// Reads a manifest's body; `None` when this version cannot.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        /// Read first: of the rest nothing is certain.
        #[derive(Deserialize)]
        struct Head {
            least_reader: u32,
        }
        let head: Head = serde_json::from_slice(body).ok()?;
        (head.least_reader <= FORMAT).then(|| serde_json::from_slice(body).ok()).flatten()
    }

    /// As it is written.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // Names, numbers and times always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1 wrote it, by hand from the structs' documentation: it must be readable for ever.
    const FIRST: &str = r#"{
        "format": 1, "least_reader": 1, "id": "csi-1", "target": "/k/mount", "holding": "session/a-1",
        "pod": {"uid": "2b41a9f0-8d6e-4a44-9f5e-0123456789ab", "name": "p", "namespace": "n", "service_account": "s"},
        "session": {
            "pod": {"uid": "2b41a9f0-8d6e-4a44-9f5e-0123456789ab", "name": "p", "namespace": "n", "service_account": "s"},
            "connection": "main", "namespace": "", "auth_method": "kubernetes", "auth_path": "kubernetes",
            "role": "r", "audience": "vault"
        },
        "spec": {
            "role": "r", "connection": "main", "namespace": "", "auth_method": "kubernetes", "auth_path": "kubernetes",
            "audience": "vault", "on_start": "check",
            "files": [{
                "name": "tls/app.crt", "secret": {"verb": "write", "path": "pki/issue/app", "query": {}, "args": {"common_name": "a"}},
                "field": {"one": "certificate"}, "format": "json", "encoding": "plain",
                "mode": 292, "uid": 0, "gid": 0, "refresh": {"secs": 60, "nanos": 0}
            }, {
                "name": "db", "secret": {"path": "database/creds/app"}, "field": "each", "format": "json",
                "encoding": "base64", "mode": 292, "uid": 0, "gid": 0, "refresh": null
            }]
        },
        "born": {"secs_since_epoch": 1795525200, "nanos_since_epoch": 0}, "names": ["db", "tls"],
        "a field of a later version": 7
    }"#;

    #[test]
    fn the_first_version_is_readable() {
        let body = Body::read(FIRST.as_bytes()).expect("it cannot be read");
        assert_eq!((body.id.as_str(), body.spec.files.len()), ("csi-1", 2));
        let file = &body.spec.files[0];
        assert_eq!(file.field, crate::spec::Field::One("certificate".into()));
        assert_eq!(file.secret.args["common_name"], "a");
        assert_eq!(file.refresh, Some(std::time::Duration::from_secs(60)));
        assert_eq!(Body::read(&body.bytes()).unwrap().spec, body.spec);
    }

    #[test]
    fn one_that_must_not_be_read_by_us_is_not() {
        let later = FIRST.replace("\"least_reader\": 1", "\"least_reader\": 2");
        assert!(Body::read(later.as_bytes()).is_none());
        assert!(Body::read(b"{}").is_none());
        assert!(Body::read(b"garbage").is_none());
    }
}
