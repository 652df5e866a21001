//! The text of `.keyhole/status.json`: per file the path in Vault, version, ages, the last error.
//!
//! Never a value, never a field's name beyond what the pod's own attributes say.

use std::time::{Duration, SystemTime};

use serde::Serialize;

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
            fetched: from.map(|from| rfc3339(from.fetched)),
            version: from.and_then(|from| from.version),
            leased: from.map(|from| from.lease),
            ends: from.and_then(|from| from.ends).map(rfc3339),
            error: error.map(|had| Told { at: rfc3339(had.at), reason: &had.reason }),
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
            .map(|had| Told { at: rfc3339(had.at), reason: &had.reason })
            .collect(),
    };
    // Text and numbers always serialize.
    let mut text = serde_json::to_vec_pretty(&status).unwrap_or_default();
    text.push(b'\n');
    text
}

/// `2026-11-24T13:00:00Z`.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (since / 86_400, since % 86_400);
    // Counting years from March, so that the leap day comes last.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_are_written_as_they_are_read(seconds in 0_u64..4_000_000_000) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(crate::identity::token::rfc3339(&rfc3339(time)), Some(time));
        }
    }
}
