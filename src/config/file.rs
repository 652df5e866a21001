//! The configuration file: YAML to [`Config`], every mistake with its line.
//!
//! See [`parse`] first. It checks what the text says; whether certificates can be read is checked by
//! `vault`, which names the file.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use saphyr::{LoadableYamlNode as _, MarkedYaml};

use crate::config::section::{Notes, Section};
use crate::config::{Budget, Config, Connection, Timeouts};
use crate::fs::serve::Gate;
use crate::spec::mistake::{Mistake, mistake, nearest};
use crate::spec::values::{self, Wrong};

/// The driver's name when the file has none.
const DRIVER_NAME: &str = "csi.keyhole.dev";

/// Reads the text of the file called `source`.
///
/// # Errors
/// Every mistake, by line.
pub fn parse(text: &str, source: &str) -> Result<Config, Vec<Mistake>> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| {
        let place = format!("{source}:{}", error.marker().line());
        vec![mistake(&place, &format!("is no YAML: {}", error.info()), "")]
    })?;
    let [document] = documents.as_slice() else {
        let what = format!("has {} YAML documents", documents.len());
        return Err(vec![mistake(&format!("{source}:1"), &what, "write one, with `vaults`")]);
    };
    let notes = Notes { source, mistakes: RefCell::default() };
    let file = Section::new("the file", document, &notes);
    let config = whole(&file, &notes);
    file.done();
    let mut mistakes = notes.mistakes.into_inner();
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        _ => {
            mistakes.sort_by_key(|mistake| {
                let line = mistake.place.rsplit_once(':').and_then(|(_, line)| line.parse().ok());
                line.unwrap_or(0_usize)
            });
            Err(mistakes)
        }
    }
}

fn whole(file: &Section<'_, '_>, notes: &Notes<'_>) -> Option<Config> {
    let driver_name = file.read("driverName", driver_name).unwrap_or(DRIVER_NAME.to_owned());
    let wanted = file.read("defaultVault", text);
    let Some(vaults) = file.section("vaults") else {
        notes.wrong(1, "vaults: missing", "name at least one: `vaults: {main: {address: …}}`");
        return None;
    };
    let sections = vaults.sections();
    if sections.is_empty() {
        notes.wrong(file.line_of("vaults"), "vaults: is empty", "name at least one");
    }
    let names: Vec<String> = sections.iter().map(|(name, _)| name.clone()).collect();
    let mut connections = BTreeMap::new();
    for (name, section) in sections {
        let read = connection(&section, notes);
        section.done();
        connections.extend(read.map(|connection| (name, connection)));
    }
    if let Some(wanted) = wanted.as_ref().filter(|wanted| !names.contains(wanted)) {
        let instead = nearest(wanted, names.iter().map(String::as_str)).map_or_else(
            || format!("there are {}", names.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let what = format!("defaultVault: {wanted:?} is not among the vaults");
        notes.wrong(file.line_of("defaultVault"), &what, &instead);
    }
    let only = if let [only] = names.as_slice() { Some(only.clone()) } else { None };
    Some(Config { driver_name, default_vault: wanted.or(only), vaults: connections })
}

fn connection(section: &Section<'_, '_>, notes: &Notes<'_>) -> Option<Connection> {
    let address = section.required("address", "write it, like https://vault:8200", address);
    let ca_file = section.read("caFile", path);
    let client_cert_file = section.read("clientCertFile", path);
    let client_key_file = section.read("clientKeyFile", path);
    let tls_server_name = section.read("tlsServerName", text);
    let namespace = section.read("namespace", |value| Ok(value.trim_matches('/').to_owned()));
    let auth_method = section.read("authMethod", values::auth_method).unwrap_or_default();
    let auth_path = section.read("authPath", values::auth_path);
    let timeouts = section.section("timeouts");
    let budget = section.section("budget");
    let timeouts = timeouts.as_ref().map(read_timeouts).unwrap_or_default();
    let budget = budget.as_ref().map(read_budget).unwrap_or_default();
    let allowed_namespaces = section.list("allowedNamespaces");
    let allowed_roles = section.list("allowedRoles");
    let gate = section.read("gate", gate).unwrap_or_default();
    if client_cert_file.is_some() != client_key_file.is_some() {
        let had = if client_cert_file.is_some() { "clientCertFile" } else { "clientKeyFile" };
        let what = "clientCertFile and clientKeyFile go together";
        notes.wrong(section.line_of(had), what, "write both or none");
    }
    let address = address?;
    if address.starts_with("http://") {
        for key in ["caFile", "clientCertFile", "tlsServerName"] {
            let set = match key {
                "caFile" => ca_file.is_some(),
                "clientCertFile" => client_cert_file.is_some(),
                _ => tls_server_name.is_some(),
            };
            if set {
                let what = format!("{key}: has no meaning for an http:// address");
                notes.wrong(section.line_of(key), &what, "write https:// or leave it out");
            }
        }
    }
    Some(Connection {
        address,
        ca_file,
        client_cert_file,
        client_key_file,
        tls_server_name,
        namespace: namespace.unwrap_or_default(),
        auth_method,
        auth_path: auth_path.unwrap_or_else(|| auth_method.as_str().to_owned()),
        timeouts,
        budget,
        allowed_namespaces,
        allowed_roles,
        gate,
    })
}

fn read_timeouts(section: &Section<'_, '_>) -> Timeouts {
    let default = Timeouts::default();
    let connect = section.read("connect", timeout).unwrap_or(default.connect);
    let request = section.read("request", timeout).unwrap_or(default.request);
    section.done();
    Timeouts { connect, request }
}

fn read_budget(section: &Section<'_, '_>) -> Budget {
    let default = Budget::default();
    let in_flight = section.read("inFlight", count).unwrap_or(default.in_flight);
    let per_second = section.read("perSecond", count).unwrap_or(default.per_second);
    section.done();
    Budget { in_flight, per_second }
}

fn text(value: &str) -> Result<String, Wrong> {
    if value.is_empty() {
        return Err(Wrong::new("is empty", "name one, or leave the key out"));
    }
    Ok(value.to_owned())
}

fn path(value: &str) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Wrong::new(format!("{value:?} is no absolute path"), "write it from / on"))
    }
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/csi-driver-v1/>:
/// at most 63 characters, a DNS name.
fn driver_name(value: &str) -> Result<String, Wrong> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let ends = value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.ends_with(|c: char| c.is_ascii_alphanumeric());
    if value.len() <= 63 && ends && value.chars().all(letters) {
        Ok(value.to_owned())
    } else {
        let what = format!("{value:?} is no name of a CSI driver");
        Err(Wrong::new(what, "write a DNS name of at most 63 characters"))
    }
}

fn address(value: &str) -> Result<String, Wrong> {
    let wrong =
        |what: &str| Wrong::new(format!("{value:?} {what}"), "write one like https://vault:8200");
    let uri: http::Uri = value.parse().map_err(|_| wrong("is no address"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("does not begin with https:// or http://"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(Wrong::new(
            "has a user name",
            "leave it out: pods log in with their own tokens",
        ));
    }
    if uri.query().is_some() || value.contains('#') {
        return Err(wrong("has a ? or # part"));
    }
    if uri.path().trim_end_matches('/').ends_with("/v1") {
        return Err(Wrong::new("ends with /v1", "leave /v1 out"));
    }
    Ok(value.trim_end_matches('/').to_owned())
}

fn timeout(value: &str) -> Result<Duration, Wrong> {
    let range = Duration::from_millis(100)..=Duration::from_secs(60);
    match values::duration(value)? {
        fine if range.contains(&fine) => Ok(fine),
        _ => Err(Wrong::new(format!("{value:?} is out of range"), "write between 100ms and 60s")),
    }
}

fn count(value: &str) -> Result<u32, Wrong> {
    value.parse().ok().filter(|count| (1..=100_000).contains(count)).ok_or_else(|| {
        Wrong::new(format!("{value:?} is no number between 1 and 100000"), "write one")
    })
}

fn gate(value: &str) -> Result<Gate, Wrong> {
    // YAML 1.1 habits: a bare `off` may arrive as a boolean from other tools.
    values::word(
        value,
        &[
            ("enforce", Gate::Enforce),
            ("audit", Gate::Audit),
            ("off", Gate::Off),
            ("false", Gate::Off),
        ],
    )
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;
