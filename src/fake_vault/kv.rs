//! The key/value engines, version 1 and 2.
//! <https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2>

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::clock::{Clock as _, SystemClock};
use crate::fake_vault::exchange::{Answer, Answered, Asked};

/// Version 1: a map. Answers tell the mount's default lease without a lease.
#[derive(Default)]
pub(super) struct Kv1(BTreeMap<String, Value>);

const DEFAULT_LEASE: u64 = 32 * 24 * 3600;

impl Kv1 {
    pub(super) fn answer(&mut self, path: &str, asked: &Asked) -> Answered {
        match asked.method.as_str() {
            "GET" => {
                let value = self.0.get(path).cloned().ok_or_else(Answer::missing)?;
                Ok(Answer::leased(value, "", DEFAULT_LEASE, false))
            }
            "POST" => {
                self.0.insert(path.to_owned(), asked.body.clone());
                Ok(Answer::done())
            }
            "DELETE" => {
                self.0.remove(path);
                Ok(Answer::done())
            }
            "LIST" => list(self.0.keys(), path),
            _ => Err(Answer::unsupported()),
        }
    }
}

struct Version {
    data: Value,
    created: String,
    deleted: String,
    destroyed: bool,
}

/// Version 2: versions below `data/`, the rest below `metadata/` and others.
#[derive(Default)]
pub(super) struct Kv2(BTreeMap<String, Vec<Version>>);

impl Kv2 {
    pub(super) fn answer(&mut self, path: &str, asked: &Asked) -> Answered {
        let (area, name) = path.split_once('/').unwrap_or((path, ""));
        match (asked.method.as_str(), area) {
            ("GET", "data") => self.read(name, asked),
            ("POST", "data") => self.write(name, asked),
            ("DELETE", "data") => {
                let versions = self.0.get_mut(name).ok_or_else(Answer::missing)?;
                if let Some(last) = versions.last_mut() {
                    last.deleted = timestamp();
                }
                Ok(Answer::done())
            }
            ("POST", "delete" | "undelete" | "destroy") => self.change(area, name, asked),
            ("LIST", "metadata") => list(self.0.keys(), name),
            ("GET", "metadata") => {
                let versions = self.0.get(name).ok_or_else(Answer::missing)?;
                Ok(Answer::data(json!({ "current_version": versions.len() })))
            }
            ("DELETE", "metadata") => {
                self.0.remove(name);
                Ok(Answer::done())
            }
            _ => {
                let said = "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. If using the Vault CLI, use 'vault kv get' for this operation.";
                let body = json!({ "request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0, "data": null, "wrap_info": null, "warnings": [said], "auth": null });
                Err(Answer { status: 404, body })
            }
        }
    }

    fn read(&self, name: &str, asked: &Asked) -> Answered {
        let versions = self.0.get(name).ok_or_else(Answer::missing)?;
        let wanted = match asked.query.get("version").map(|text| text.parse::<usize>()) {
            None | Some(Ok(0)) => versions.len(),
            Some(Ok(number)) => number,
            Some(Err(_)) => {
                let said = "error converting input for field \"version\"";
                return Err(Answer::bad_request(said));
            }
        };
        let version = wanted.checked_sub(1).and_then(|at| versions.get(at));
        let version = version.ok_or_else(Answer::missing)?;
        let metadata = metadata(version, wanted);
        let gone = version.destroyed || !version.deleted.is_empty();
        let data = if gone { Value::Null } else { version.data.clone() };
        let answer = Answer::data(json!({ "data": data, "metadata": metadata }));
        if gone { Err(Answer { status: 404, ..answer }) } else { Ok(answer) }
    }

    fn write(&mut self, name: &str, asked: &Asked) -> Answered {
        let Some(data) = asked.body.get("data").filter(|data| data.is_object()).cloned() else {
            return Err(Answer::bad_request("no data provided"));
        };
        let versions = self.0.entry(name.to_owned()).or_default();
        let created = timestamp();
        versions.push(Version { data, created, deleted: String::new(), destroyed: false });
        let last = versions.last().map(|version| metadata(version, versions.len()));
        Ok(Answer::data(last.unwrap_or_default()))
    }

    fn change(&mut self, what: &str, name: &str, asked: &Asked) -> Answered {
        let versions = self.0.get_mut(name).ok_or_else(Answer::missing)?;
        let numbers = asked.body.get("versions").and_then(Value::as_array);
        for number in numbers.into_iter().flatten().filter_map(Value::as_u64) {
            let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
            let Some(version) = at.and_then(|at| versions.get_mut(at)) else { continue };
            match what {
                "delete" => version.deleted = timestamp(),
                "undelete" => version.deleted = String::new(),
                _ => {
                    version.destroyed = true;
                    version.data = Value::Null;
                }
            }
        }
        Ok(Answer::done())
    }
}

fn metadata(version: &Version, number: usize) -> Value {
    json!({
        "created_time": version.created,
        "custom_metadata": null,
        "deletion_time": version.deleted,
        "destroyed": version.destroyed,
        "version": number,
    })
}

fn timestamp() -> String {
    crate::clock::timestamp(SystemClock.wall())
}

/// The names right below a folder; folders end with `/`.
fn list<'a>(paths: impl Iterator<Item = &'a String>, folder: &str) -> Answered {
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{}/", folder.trim_end_matches('/'))
    };
    let keys: BTreeSet<String> = paths
        .filter_map(|path| path.strip_prefix(&prefix))
        .map(|rest| match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        })
        .collect();
    if keys.is_empty() { Err(Answer::missing()) } else { Ok(Answer::data(json!({ "keys": keys }))) }
}
