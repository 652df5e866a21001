//! `auth/`: the kubernetes and jwt methods, their roles, logins; and tokens made by root.
//! <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes>, `/jwt`

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::Moment;
use crate::fake_vault::cluster::is_over;
use crate::fake_vault::exchange::{Answer, Answered, Asked};
use crate::fake_vault::jwt::PublicKey;
use crate::fake_vault::tokens::{Term, Token};
use crate::fake_vault::vault::{Place, Vault};

/// An auth method.
pub(super) struct Method {
    kind: Kind,
    /// jwt: `jwt_validation_pubkeys`.
    keys: Vec<PublicKey>,
    configured: bool,
    roles: BTreeMap<String, Role>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kubernetes,
    Jwt,
}

/// A role of either method.
#[derive(Clone)]
struct Role {
    names: Vec<String>,
    namespaces: Vec<String>,
    audiences: Vec<String>,
    subject: String,
    claims: BTreeMap<String, String>,
    policies: Vec<String>,
    ttl: u64,
    max: u64,
}

impl Method {
    pub(super) fn of_kind(kind: &str) -> Option<Self> {
        let kind = match kind {
            "kubernetes" => Kind::Kubernetes,
            "jwt" | "oidc" => Kind::Jwt,
            _ => return None,
        };
        Some(Self { kind, keys: Vec::new(), configured: false, roles: BTreeMap::new() })
    }

    fn configure(&mut self, asked: &Asked) {
        let pems = asked.list("jwt_validation_pubkeys");
        self.keys = pems.iter().filter_map(|pem| PublicKey::from_pem(pem)).collect();
        self.configured = true;
    }

    fn put_role(&mut self, name: &str, asked: &Asked) {
        let either = |one: &str, other: &str| {
            let list = asked.list(one);
            if list.is_empty() { asked.list(other) } else { list }
        };
        let claims = asked.body.get("bound_claims").and_then(Value::as_object);
        let claims = claims
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let role = Role {
            names: asked.list("bound_service_account_names"),
            namespaces: asked.list("bound_service_account_namespaces"),
            audiences: either("bound_audiences", "audience"),
            subject: asked.text("bound_subject").to_owned(),
            claims: claims.collect(),
            policies: either("token_policies", "policies"),
            ttl: asked.seconds("token_ttl").unwrap_or(0),
            max: asked.seconds("token_max_ttl").unwrap_or(0),
        };
        self.roles.insert(name.to_owned(), role);
    }

    /// Whether this role lets a token with these claims in.
    fn admits(&self, role: &Role, claims: &Value) -> Result<(), Answer> {
        let audience = claims.get("aud").and_then(Value::as_array);
        let audience: Vec<&str> =
            audience.into_iter().flatten().filter_map(Value::as_str).collect();
        let known = role.audiences.iter().any(|wanted| audience.contains(&wanted.as_str()));
        let fits = role.audiences.is_empty() || known;
        let wrong_audience = "audience claim does not match any expected audience";
        if self.kind == Kind::Jwt {
            let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
            let wrong =
                |said: &str| Err(Answer::bad_request(&format!("error validating token: {said}")));
            if !fits {
                return wrong(&format!("invalid audience (aud) claim: {wrong_audience}"));
            }
            if !role.subject.is_empty() && role.subject != text("sub") {
                return wrong("invalid subject (sub) claim");
            }
            let claim = role.claims.iter().find(|(name, value)| text(name) != value.as_str());
            return match claim {
                Some((name, _)) => Err(Answer::bad_request(&format!(
                    "error validating claims: claim {name:?} does not match any associated bound claim values"
                ))),
                None => Ok(()),
            };
        }
        let (namespace, name) = service_account(claims);
        let among =
            |list: &[String], value: &str| list.iter().any(|had| had == value || had == "*");
        if !fits {
            return Err(Answer::error(
                403,
                &format!("invalid audience (aud) claim: {wrong_audience}"),
            ));
        }
        if !among(&role.namespaces, namespace) {
            return Err(Answer::error(403, "namespace not authorized"));
        }
        if !among(&role.names, name) {
            return Err(Answer::error(403, "service account name not authorized"));
        }
        Ok(())
    }
}

/// Namespace and name of `system:serviceaccount:<namespace>:<name>`.
fn service_account(claims: &Value) -> (&str, &str) {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let account = subject.strip_prefix("system:serviceaccount:").unwrap_or_default();
    account.split_once(':').unwrap_or_default()
}

impl Vault {
    /// `auth/<method>/login`.
    pub(super) fn login(&mut self, at: &Place, asked: &Asked, now: Moment) -> Answered {
        let method = self.methods.get(at).ok_or_else(Answer::missing)?;
        let (role_name, jwt) = (asked.text("role"), asked.text("jwt"));
        if jwt.is_empty() {
            return Err(Answer::bad_request("missing jwt"));
        }
        if !method.configured {
            let said = "could not load backend configuration";
            return Err(Answer::error(500, said));
        }
        let role = method.roles.get(role_name).cloned().ok_or_else(|| {
            Answer::bad_request(&match method.kind {
                Kind::Kubernetes => format!("invalid role name {role_name:?}"),
                Kind::Jwt => format!("role {role_name:?} could not be found"),
            })
        })?;
        let keys = match method.kind {
            Kind::Kubernetes => &self.clusters,
            Kind::Jwt => &method.keys,
        };
        let claims = keys.iter().find_map(|key| key.check(jwt));
        let claims = match (method.kind, claims) {
            (_, Some(claims)) if !is_over(&claims) => claims,
            // What the TokenReview says is not passed on.
            (Kind::Kubernetes, _) => return Err(Answer::denied()),
            (Kind::Jwt, Some(_)) => {
                let said =
                    "error validating token: invalid expiration time (exp) claim: token is expired";
                return Err(Answer::bad_request(said));
            }
            (Kind::Jwt, None) => {
                let said = "error validating token: error verifying token signature: no known key successfully validated the token signature";
                return Err(Answer::bad_request(said));
            }
        };
        method.admits(&role, &claims)?;
        let (namespace, name) = service_account(&claims);
        let metadata = json!({
            "role": role_name,
            "service_account_name": name,
            "service_account_namespace": namespace,
        });
        let mut policies = vec!["default".to_owned()];
        policies.extend(role.policies);
        // Vault's own default of a mount is 32 days.
        let ttl = if role.ttl == 0 { 32 * 24 * 3600 } else { role.ttl };
        let token = Token {
            namespace: at.namespace.clone(),
            policies,
            term: Term::new(ttl, role.max, true, now),
            login: format!("auth/{}/login", at.path),
            accessor: String::new(),
        };
        Ok(self.tokens.make(token, &metadata))
    }

    /// Everything else below `auth/`.
    pub(super) fn auth(&mut self, place: &Place, asked: &Asked, now: Moment) -> Answered {
        if let Some(what) = place.path.strip_prefix("token/") {
            return self.token(what, &place.namespace, asked, now);
        }
        let (mount, rest) = match place.path.rsplit_once("/role/") {
            Some((mount, role)) => (mount, Some(role)),
            None => (place.path.strip_suffix("/config").unwrap_or_default(), None),
        };
        let method = self.methods.get_mut(&Place::new(&place.namespace, mount));
        let method = method.ok_or_else(|| {
            let said =
                format!("no handler for route \"auth/{}\". route entry not found.", place.path);
            Answer::error(404, &said)
        })?;
        match (asked.method.as_str(), rest) {
            ("POST", Some(role)) => method.put_role(role, asked),
            ("DELETE", Some(role)) => drop(method.roles.remove(role)),
            ("POST", None) => method.configure(asked),
            _ => return Err(Answer::unsupported()),
        }
        Ok(Answer::done())
    }

    fn token(&mut self, what: &str, namespace: &str, asked: &Asked, now: Moment) -> Answered {
        match (asked.method.as_str(), what) {
            ("POST", "create") => {
                let ttl = asked.seconds("ttl").unwrap_or(32 * 24 * 3600);
                let max = asked.seconds("explicit_max_ttl").unwrap_or(0);
                let token = Token {
                    namespace: namespace.to_owned(),
                    policies: asked.list("policies"),
                    term: Term::new(ttl, max, true, now),
                    login: String::new(),
                    accessor: String::new(),
                };
                Ok(self.tokens.make(token, &Value::Null))
            }
            ("POST", "revoke") => {
                self.tokens.revoke(asked.text("token"), now);
                Ok(Answer::done())
            }
            ("POST", "revoke-accessor") => self.tokens.revoke_accessor(asked.text("accessor"), now),
            _ => Err(Answer::unsupported()),
        }
    }
}
