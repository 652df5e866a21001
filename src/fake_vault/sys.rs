//! `sys/`: mounts, auth methods, policies, namespaces, leases, health.

use serde_json::json;

use crate::clock::Moment;
use crate::fake_vault::auth::Method;
use crate::fake_vault::exchange::{Answer, Answered, Asked};
use crate::fake_vault::kv::{Kv1, Kv2};
use crate::fake_vault::policy::Policy;
use crate::fake_vault::vault::{Engine, Place, Vault};

/// `sys/health`.
pub(super) fn health() -> Answer {
    let body = json!({ "initialized": true, "sealed": false, "standby": false, "version": "fake" });
    Answer { status: 200, body }
}

/// `sys/internal/ui/mounts/<path>`.
pub(super) fn describe_mount(at: &Place, engine: &Engine) -> Answer {
    let (kind, version) = match engine {
        Engine::Kv1(_) => ("kv", Some("1")),
        Engine::Kv2(_) => ("kv", Some("2")),
        Engine::Database(_) => ("database", None),
        Engine::Pki(_) => ("pki", None),
        Engine::Transit(_) => ("transit", None),
    };
    let options = version.map(|version| json!({ "version": version }));
    Answer::data(json!({ "path": format!("{}/", at.path), "type": kind, "options": options }))
}

fn engine(kind: &str, version: &str) -> Option<Engine> {
    Some(match (kind, version) {
        ("kv", "2") | ("kv-v2", _) => Engine::Kv2(Kv2::default()),
        ("kv" | "kv-v1" | "generic", _) => Engine::Kv1(Kv1::default()),
        ("database", _) => Engine::Database(Default::default()),
        ("pki", _) => Engine::Pki(Box::default()),
        ("transit", _) => Engine::Transit(Default::default()),
        _ => return None,
    })
}

impl Vault {
    pub(super) fn sys(&mut self, place: &Place, asked: &Asked, now: Moment) -> Answered {
        let (area, rest) = place.path.split_once('/').unwrap_or((&place.path, ""));
        let here = Place::new(&place.namespace, rest);
        match (asked.method.as_str(), area) {
            ("POST", "mounts") => self.mount(here, asked),
            ("DELETE", "mounts") => {
                self.engines.remove(&here);
                self.tokens.revoke_prefix(&format!("{}/", here.path));
                Ok(Answer::done())
            }
            ("POST", "auth") => {
                let method = Method::of_kind(asked.text("type")).ok_or_else(|| {
                    Answer::bad_request(&format!("unknown auth type: {:?}", asked.text("type")))
                })?;
                if self.methods.contains_key(&here) {
                    let said = format!("path is already in use at {}/", here.path);
                    return Err(Answer::bad_request(&said));
                }
                self.methods.insert(here, method);
                Ok(Answer::done())
            }
            ("DELETE", "auth") => {
                self.methods.remove(&here);
                Ok(Answer::done())
            }
            ("POST" | "DELETE", "policy" | "policies") => {
                let name = rest.strip_prefix("acl/").unwrap_or(rest);
                self.policy(Place::new(&place.namespace, name), asked)
            }
            ("POST", "namespaces") => {
                let name = format!("{}/{}", place.namespace, rest.trim_matches('/'));
                self.namespaces.insert(name.trim_matches('/').to_owned());
                Ok(Answer::data(json!({ "path": format!("{rest}/") })))
            }
            ("POST", "leases") => match rest {
                "renew" => self.tokens.renew_lease(asked, now),
                "revoke" => Ok(self.tokens.revoke_lease(asked.text("lease_id"))),
                "lookup" => self.tokens.lookup_lease(asked.text("lease_id"), now),
                other => match other.strip_prefix("revoke-prefix/") {
                    Some(prefix) => Ok(self.tokens.revoke_prefix(prefix)),
                    None => Err(Answer::unsupported()),
                },
            },
            ("LIST", "leases") => {
                let prefix =
                    format!("{}/", rest.strip_prefix("lookup/").unwrap_or(rest).trim_matches('/'));
                let leases = self.tokens.leases(&prefix);
                let keys: Vec<_> =
                    leases.iter().filter_map(|id| id.strip_prefix(&prefix)).collect();
                if keys.is_empty() {
                    Err(Answer::missing())
                } else {
                    Ok(Answer::data(json!({ "keys": keys })))
                }
            }
            _ => Err(Answer::unsupported()),
        }
    }

    fn mount(&mut self, here: Place, asked: &Asked) -> Answered {
        let kind = asked.text("type");
        let version = asked.body.get("options").and_then(|options| options.get("version"));
        let version = version.and_then(|version| version.as_str()).unwrap_or_default();
        let engine = engine(kind, version).ok_or_else(|| {
            Answer::bad_request(&format!("plugin not found in the catalog: {kind}"))
        })?;
        if self.engines.contains_key(&here) {
            return Err(Answer::bad_request(&format!("path is already in use at {}/", here.path)));
        }
        self.engines.insert(here, engine);
        Ok(Answer::done())
    }

    fn policy(&mut self, place: Place, asked: &Asked) -> Answered {
        if !asked.is_write() {
            self.policies.remove(&place);
            return Ok(Answer::done());
        }
        let policy = Policy::parse(asked.text("policy"));
        let refused = || Answer::bad_request("failed to parse policy: this fake reads JSON only");
        self.policies.insert(place, policy.ok_or_else(refused)?);
        Ok(Answer::done())
    }
}
