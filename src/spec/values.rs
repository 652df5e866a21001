//! Single values of attributes: what may be written, what it means, what to write instead.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::session::AuthMethod;
use crate::secret::json::Json;
use crate::secret::request::SecretRequest;
use crate::spec::mistake::{Mistake, mistake};
use crate::spec::{Encoding, Field, Format, OnStart};

/// What is wrong with a value, before the key is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    what: String,
    instead: String,
}

impl Wrong {
    /// What is wrong, and what to write instead.
    pub fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { what: what.into(), instead: instead.into() }
    }

    /// The mistake, at its place.
    pub fn at(self, place: &str) -> Mistake {
        mistake(place, &self.what, &self.instead)
    }
}

/// One of a few words.
pub fn word<T: Copy>(value: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let near = crate::spec::mistake::nearest(value, all.iter().copied());
        let instead = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", all.join(", ")),
        };
        Wrong::new(format!("{value:?} is none of its values"), instead)
    })
}

/// `kubernetes` or `jwt`.
pub fn auth_method(value: &str) -> Result<AuthMethod, Wrong> {
    word(value, &[("kubernetes", AuthMethod::Kubernetes), ("jwt", AuthMethod::Jwt)])
}

pub(super) fn on_start(value: &str) -> Result<OnStart, Wrong> {
    let words = [("check", OnStart::Check), ("lazy", OnStart::Lazy), ("fetch", OnStart::Fetch)];
    word(value, &words)
}

pub(super) fn format(value: &str) -> Result<Format, Wrong> {
    word(
        value,
        &[
            ("json", Format::Json),
            ("raw", Format::Raw),
            ("dotenv", Format::Dotenv),
            ("properties", Format::Properties),
            ("yaml", Format::Yaml),
        ],
    )
}

pub(super) fn encoding(value: &str) -> Result<Encoding, Wrong> {
    word(value, &[("plain", Encoding::Plain), ("base64", Encoding::Base64)])
}

/// GET reads; PUT and POST write, which is one thing to Vault.
pub(super) fn is_write(value: &str) -> Result<bool, Wrong> {
    word(&value.to_ascii_uppercase(), &[("GET", false), ("PUT", true), ("POST", true)])
}

pub(super) fn field(value: &str) -> Result<Field, Wrong> {
    match value {
        "" => {
            Err(Wrong::new("is empty", "name a field, or `*`, or leave the key out for all fields"))
        }
        "*" => Ok(Field::Each),
        name => Ok(Field::One(name.to_owned())),
    }
}

/// A role, an audience, a connection: not empty, on one line, no `/` at its ends.
pub(super) fn name(value: &str) -> Result<String, Wrong> {
    if value.is_empty() {
        return Err(Wrong::new("is empty", "name one, or leave the key out"));
    }
    if value.chars().any(char::is_control) || value.trim() != value {
        return Err(Wrong::new("has white space at its ends or a control character", "remove it"));
    }
    Ok(value.to_owned())
}

/// A Vault namespace, with or without slashes at its ends.
pub(super) fn namespace(value: &str) -> Result<String, Wrong> {
    Ok(name(value)?.trim_matches('/').to_owned())
}

/// A path below `auth/`, with or without it.
pub fn auth_path(value: &str) -> Result<String, Wrong> {
    let path = name(value)?;
    let path = path.trim_matches('/');
    if path.is_empty() {
        return Err(Wrong::new("is empty", "write the path below auth/"));
    }
    match path.strip_prefix("auth/") {
        Some(rest) => Err(Wrong::new("begins with auth/", format!("write `{rest}`"))),
        None => plain_path(path).map(|()| path.to_owned()),
    }
}

/// A path in Vault with an optional query, as `secret/data/app?version=3`.
pub(super) fn secret(value: &str) -> Result<SecretRequest, Wrong> {
    let (path, query) = value.split_once('?').unwrap_or((value, ""));
    if path.is_empty() {
        return Err(Wrong::new("is empty", "write a path in Vault, like secret/data/app"));
    }
    for prefix in ["/v1/", "v1/", "/"] {
        if let Some(rest) = path.strip_prefix(prefix) {
            return Err(Wrong::new(format!("begins with {prefix}"), format!("write `{rest}`")));
        }
    }
    plain_path(path)?;
    let mut request = SecretRequest::read(path.trim_end_matches('/'));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Wrong::new(format!("has {pair:?} after the ?"), "write `?version=3`"));
        };
        request.query.insert(key.to_owned(), value.to_owned());
    }
    Ok(request)
}

fn plain_path(path: &str) -> Result<(), Wrong> {
    if path.chars().any(|c| c.is_control() || c == '#') {
        return Err(Wrong::new("has a control character or a #", "remove it"));
    }
    if path.trim_end_matches('/').split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Wrong::new("has an empty, `.` or `..` part", "write the plain path"));
    }
    Ok(())
}

/// A JSON object of plain values, or `key=value` lines.
pub(super) fn args(value: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let trimmed = value.trim();
    if trimmed.starts_with('{') {
        let json = Json::parse(trimmed.as_bytes()).map_err(|error| {
            Wrong::new(error.to_string(), "write a JSON object or key=value lines")
        })?;
        let mut args = BTreeMap::new();
        for (key, value) in json.sorted() {
            let text = match value {
                Json::String(text) | Json::Number(text) => text.clone(),
                Json::Bool(value) => value.to_string(),
                Json::Null | Json::Array(_) | Json::Object(_) => {
                    return Err(Wrong::new(
                        format!("the value of {key:?} is no string, number or boolean"),
                        "write lists as one string with commas, as `vault write` does",
                    ));
                }
            };
            args.insert(key.to_owned(), text);
        }
        return Ok(args);
    }
    let mut args = BTreeMap::new();
    for line in trimmed.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((key, value)) = line.split_once('=').filter(|(key, _)| !key.trim().is_empty())
        else {
            return Err(Wrong::new(
                "a line has no key=value",
                "write one key=value per line, like common_name=app",
            ));
        };
        args.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(args)
}

/// Octal permission bits.
pub(super) fn mode(value: &str) -> Result<u16, Wrong> {
    let bits = u16::from_str_radix(value.trim_start_matches("0o"), 8).ok();
    match bits {
        Some(bits) if bits <= 0o777 => Ok(bits),
        Some(_) => Err(Wrong::new(
            format!("{value:?} has more than permission bits"),
            "write at most 0777: no set-uid, set-gid or sticky bit",
        )),
        None => Err(Wrong::new(format!("{value:?} is no octal number"), "write one, like 0440")),
    }
}

pub(super) fn id(value: &str) -> Result<u32, Wrong> {
    // The highest one means "none" to chown(2).
    value.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
        Wrong::new(format!("{value:?} is no user or group number"), "write a number, like 1000")
    })
}

/// A refresh: a duration of at least a second, or `never`.
pub(super) fn refresh(value: &str) -> Result<Option<Duration>, Wrong> {
    if value == "never" {
        return Ok(None);
    }
    match duration(value)? {
        long if long >= Duration::from_secs(1) => Ok(Some(long)),
        _ => {
            Err(Wrong::new(format!("{value:?} is shorter than 1s"), "write at least 1s, or never"))
        }
    }
}

/// A duration as Go and Kubernetes write it: `90s`, `1h30m`, `1.5s`, `250ms`.
pub fn duration(value: &str) -> Result<Duration, Wrong> {
    let wrong =
        || Wrong::new(format!("{value:?} is no duration"), "write one like 30s, 5m or 1h30m");
    let mut total = Duration::ZERO;
    let mut rest = value;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let length = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, after) = unit.split_at(length);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(total)
}
