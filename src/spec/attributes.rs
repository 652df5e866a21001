//! Volume attributes: every key, what it means, and how the whole map becomes a [`VolumeSpec`].
//!
//! See [`KEYS`] first: the table is the reference manual (README's is tested against it). A key with no
//! `/` is of the volume; otherwise the part after the last `/` is an option and the rest the file's name.
//! All mistakes are returned at once, sorted by key. Kubelet's own `csi.storage.k8s.io/*` are ignored.

use std::collections::BTreeMap;

use crate::identity::session::AuthMethod;
use crate::spec::file::Group;
use crate::spec::mistake::{Mistake, mistake, nearest};
use crate::spec::{OnStart, VolumeSpec, file, names, values};

/// Whose option a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `role: app`.
    Volume,
    /// `db.env/secret: …`.
    File,
}

/// One key that a volume may have.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whose option it is.
    pub scope: Scope,
    /// What may be written.
    pub values: &'static str,
    /// What holds when it is not written.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn of_volume(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, scope: Scope::Volume, values, default, meaning }
}

const fn of_file(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, scope: Scope::File, values, default, meaning }
}

/// Every key.
pub const KEYS: &[Key] = &[
    of_volume(
        "role",
        "a Vault role",
        "required",
        "the role that the pod's service account logs in with",
    ),
    of_volume(
        "vault",
        "a connection's name",
        "the driver's default",
        "which connection of the driver's configuration is used",
    ),
    of_volume("namespace", "a Vault namespace", "the connection's", "sent as X-Vault-Namespace"),
    of_volume(
        "authMethod",
        "kubernetes, jwt",
        "the connection's",
        "how the pod's token is traded for a Vault token",
    ),
    of_volume(
        "authPath",
        "a path below auth/",
        "the connection's",
        "where the auth method is mounted",
    ),
    of_volume(
        "audience",
        "an audience of the CSIDriver's tokenRequests",
        "vault",
        "which of the pod's tokens is used",
    ),
    of_volume(
        "onStart",
        "check, lazy, fetch",
        "check",
        "before the pod starts: log in and stop only on a definite no; ask nothing; render every file",
    ),
    of_volume(
        "refresh",
        "a duration of at least 1s, never",
        "never",
        "default of the files' refresh",
    ),
    of_file("secret", "a Vault path, with ?version=N", "required", "what the file shows"),
    of_file(
        "field",
        "a field's name, *",
        "all fields",
        "the one field that the file shows; * makes a folder with a file per field",
    ),
    of_file(
        "format",
        "json, raw, dotenv, properties, yaml",
        "json",
        "how all fields are shown; raw is Vault's whole answer",
    ),
    of_file(
        "method",
        "GET, PUT, POST",
        "GET",
        "PUT and POST write args and show the answer (pki/issue, transit)",
    ),
    of_file("args", "a JSON object, or key=value lines", "none", "body of a PUT or POST"),
    of_file("encoding", "plain, base64", "plain", "base64: the field's value is decoded"),
    of_file("mode", "octal, at most 0777", "0444; 0440 with fsGroup", "permission bits"),
    of_file("uid", "a number", "0", "owner"),
    of_file("gid", "a number", "0; fsGroup when the pod has one", "group"),
    of_file(
        "refresh",
        "a duration of at least 1s, never",
        "the volume's",
        "how often to ask again what has no lease",
    ),
];

/// Keys that later versions honour.
const NOT_YET: [&str; 5] =
    ["template", "leftDelimiter", "rightDelimiter", "errorOnMissingKey", "signal"];
/// Parameters of the vault-csi-provider, which people paste.
const PROVIDER: [(&str, &str); 8] = [
    ("roleName", "write `role`"),
    ("objects", "write one `<file>/secret` and `<file>/field` for each object"),
    (
        "vaultAddress",
        "an operator names the address in the driver's configuration; write `vault` to choose one",
    ),
    ("vaultNamespace", "write `namespace`"),
    ("vaultAuthMountPath", "write `authPath`"),
    ("vaultKubernetesMountPath", "write `authPath`"),
    ("secretProviderClass", "write the files into the volume's own attributes"),
    ("vaultSkipTLSVerify", "an operator names the CA in the driver's configuration"),
];
/// Annotations of the Vault Agent Injector start so.
const INJECTOR: [&str; 2] = ["vault.hashicorp.com/", "openbao.org/"];

/// What a connection of the driver's configuration gives to volumes that do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionDefaults {
    /// Vault namespace; empty for none.
    pub namespace: String,
    /// kubernetes or jwt.
    pub auth_method: AuthMethod,
    /// Below `auth/`.
    pub auth_path: String,
}

/// What the driver's configuration gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Connection of a volume that names none.
    pub connection: Option<String>,
    /// By connection.
    pub connections: BTreeMap<String, ConnectionDefaults>,
}

/// Reads a volume's attributes; `group` is the pod's fsGroup.
///
/// # Errors
/// Every mistake, sorted by key.
pub fn parse(
    attributes: &BTreeMap<String, String>,
    defaults: &Defaults,
    group: Option<u32>,
) -> Result<VolumeSpec, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut volume: BTreeMap<&str, &str> = BTreeMap::new();
    let mut files: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (key, value) in attributes {
        if key.starts_with("csi.storage.k8s.io/") {
            continue;
        }
        if let Some(prefix) = INJECTOR.iter().find(|prefix| key.starts_with(**prefix)) {
            mistakes.push(mistake(
                key,
                "injector annotations are not supported by this version yet",
                &format!("write `<file>/secret` instead of {prefix}agent-inject-…"),
            ));
            continue;
        }
        let (name, option) = match key.rsplit_once('/') {
            None => ("", key.as_str()),
            Some(parts) => parts,
        };
        let scope = if key.contains('/') { Scope::File } else { Scope::Volume };
        if let Err(wrong) = known(key, option, scope) {
            mistakes.push(wrong);
            if scope == Scope::File {
                files.entry(name).or_default();
            }
        } else if scope == Scope::File {
            files.entry(name).or_default().insert(option, value);
        } else {
            volume.insert(option, value);
        }
    }

    let spec = of_volume_keys(&volume, defaults, &mut mistakes);
    let refresh = volume.get("refresh").and_then(|value| {
        values::refresh(value).unwrap_or_else(|wrong| {
            mistakes.push(wrong.at("refresh"));
            None
        })
    });
    mistakes.extend(names::check(files.keys().copied()));
    let group = Group { gid: group };
    let parsed: Vec<_> = files
        .iter()
        .filter_map(|(name, options)| file::parse(name, options, group, refresh, &mut mistakes))
        .collect();
    mistakes.extend(names::clashes(&parsed));
    if files.is_empty() {
        mistakes.push(mistake(
            "volumeAttributes",
            "the volume has no file",
            "write `<file>/secret: <path in Vault>`",
        ));
    }
    mistakes.sort_by(|one, other| (&one.place, &one.what).cmp(&(&other.place, &other.what)));
    if mistakes.is_empty() { Ok(VolumeSpec { files: parsed, ..spec }) } else { Err(mistakes) }
}

/// Whether `option` is an option of `scope`; else what to write.
fn known(key: &str, option: &str, scope: Scope) -> Result<(), Mistake> {
    let of = |wanted: Scope| KEYS.iter().filter(move |known| known.scope == wanted);
    if of(scope).any(|known| known.name == option) {
        return Ok(());
    }
    if NOT_YET.contains(&option) {
        return Err(mistake(key, &format!("`{option}` is not supported by this version yet"), ""));
    }
    if let (Scope::Volume, Some((_, instead))) =
        (scope, PROVIDER.iter().find(|(name, _)| *name == option))
    {
        return Err(mistake(
            key,
            "parameters of the vault-csi-provider are not supported by this version yet",
            instead,
        ));
    }
    let other = if scope == Scope::File { Scope::Volume } else { Scope::File };
    if of(other).any(|known| known.name == option) {
        let (what, instead) = match other {
            Scope::File => ("is an option of a file", format!("write `<file>/{option}`")),
            Scope::Volume => ("is an option of the volume", format!("write `{option}`")),
        };
        return Err(mistake(key, &format!("`{option}` {what}"), &instead));
    }
    let instead = nearest(option, of(scope).map(|known| known.name))
        .map(|near| {
            let right = key.strip_suffix(option).unwrap_or_default();
            format!("did you mean `{right}{near}`?")
        })
        .unwrap_or_else(|| {
            let all = of(scope).map(|known| known.name).collect::<Vec<_>>().join(", ");
            format!("known are {all}")
        });
    Err(mistake(key, &format!("unknown option `{option}`"), &instead))
}

fn of_volume_keys(
    volume: &BTreeMap<&str, &str>,
    defaults: &Defaults,
    mistakes: &mut Vec<Mistake>,
) -> VolumeSpec {
    let mut take =
        |key: &str, fallback: &str, read: fn(&str) -> Result<String, values::Wrong>| match volume
            .get(key)
        {
            None => fallback.to_owned(),
            Some(value) => read(value).unwrap_or_else(|wrong| {
                mistakes.push(wrong.at(key));
                String::new()
            }),
        };
    let fallback = defaults.connection.clone().unwrap_or_default();
    let connection = take("vault", &fallback, values::name);
    let given = defaults.connections.get(&connection).cloned().unwrap_or_default();
    let role = take("role", "", values::name);
    let namespace = take("namespace", &given.namespace, values::namespace);
    let audience = take("audience", "vault", values::name);
    let method = volume.get("authMethod").map(|value| values::auth_method(value));
    let default_path = match &method {
        // Another method than the connection's is mounted elsewhere: at its own name.
        Some(Ok(method)) if *method != given.auth_method => method.as_str().to_owned(),
        Some(_) | None => given.auth_path.clone(),
    };
    let auth_path = take("authPath", &default_path, values::auth_path);
    if !volume.contains_key("role") {
        mistakes.push(mistake("role", "missing", "name the Vault role that the pod logs in with"));
    }
    if connection.is_empty() && !volume.contains_key("vault") {
        let known = defaults.connections.keys().cloned().collect::<Vec<_>>().join(", ");
        let instead = format!("name one of {known}");
        mistakes.push(mistake("vault", "missing: the driver has no default connection", &instead));
    } else if volume.contains_key("vault")
        && !connection.is_empty()
        && !defaults.connections.contains_key(&connection)
    {
        let known = defaults.connections.keys().map(String::as_str);
        let instead = nearest(&connection, known.clone()).map_or_else(
            || format!("it has {}", known.collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let what = format!("the driver's configuration has no connection {connection:?}");
        mistakes.push(mistake("vault", &what, &instead));
    }
    let auth_method = method.transpose().unwrap_or_else(|wrong| {
        mistakes.push(wrong.at("authMethod"));
        None
    });
    let on_start =
        volume.get("onStart").map_or(Ok(OnStart::default()), |value| values::on_start(value));
    let on_start = on_start.unwrap_or_else(|wrong| {
        mistakes.push(wrong.at("onStart"));
        OnStart::default()
    });
    VolumeSpec {
        role,
        connection,
        namespace,
        auth_method: auth_method.unwrap_or(given.auth_method),
        auth_path,
        audience,
        on_start,
        files: Vec::new(),
    }
}

#[cfg(test)]
#[path = "attributes/tests.rs"]
mod tests;
