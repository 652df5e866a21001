//! The text of `.keyhole/status.json`: per file the path in Vault, version, ages, the last error.
//!
//! Never a value, never a field's name beyond what the pod's own attributes say.

use std::time::SystemTime;

use serde::Serialize;

use crate::clock::timestamp;
use crate::fs::versions::Versions;
use crate::identity::pod::PodUid;
use crate::spec::VolumeSpec;

/// Something that the person should know, though the volume works.
pub(super) struct Warning {
    pub(super) reason: String,
    pub(super) at: SystemTime,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    pod: &'a str,
    connection: &'a str,
    role: &'a str,
    generation: u32,
    files: Vec<File<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Told<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    name: &'a str,
    path: &'a str,
    fetched: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leased: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    at: String,
    reason: &'a str,
}

/// The whole text, with a line break at its end.
pub(super) fn text(
    spec: &VolumeSpec,
    pod: &PodUid,
    versions: &Versions,
    warnings: &[Warning],
) -> Vec<u8> {
    let files = spec.files.iter().zip(&versions.files).map(|(file, present)| {
        let from = present.provenance.as_ref().filter(|_| present.content.is_some());
        let error = present.failure.as_ref();
        File {
            name: &file.name,
            path: &file.secret.path,
            fetched: from.map(|from| timestamp(from.fetched)),
            version: from.and_then(|from| from.version),
            leased: from.map(|from| from.lease),
            ends: from.and_then(|from| from.ends).map(timestamp),
            error: error.map(|had| Told { at: timestamp(had.at), reason: &had.reason }),
        }
    });
    let status = Status {
        pod: pod.as_str(),
        connection: &spec.connection,
        role: &spec.role,
        generation: versions.generation,
        files: files.collect(),
        warnings: warnings
            .iter()
            .map(|had| Told { at: timestamp(had.at), reason: &had.reason })
            .collect(),
    };
    // Text and numbers always serialize.
    let mut text = serde_json::to_vec_pretty(&status).unwrap_or_default();
    text.push(b'\n');
    text
}
