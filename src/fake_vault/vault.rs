//! [`Vault`]: who asks, where the path leads, and whether that is allowed.
//!
//! See [`Vault::answer`] first: namespace -> token -> policy -> engine, auth method or `sys`.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::{Clock as _, Moment, SystemClock};
use crate::fake_vault::auth::Method;
use crate::fake_vault::cluster::Cluster;
use crate::fake_vault::database::Database;
use crate::fake_vault::exchange::{Answer, Answered, Asked};
use crate::fake_vault::jwt::PublicKey;
use crate::fake_vault::kv::{Kv1, Kv2};
use crate::fake_vault::pki::Pki;
use crate::fake_vault::policy::{self, Policy};
use crate::fake_vault::tokens::{Term, Token, Tokens};
use crate::fake_vault::transit::Transit;

/// A secrets engine.
pub(super) enum Engine {
    Kv1(Kv1),
    Kv2(Kv2),
    Database(Database),
    Pki(Box<Pki>),
    Transit(Transit),
}

/// What an engine may use to answer.
pub(super) struct Context<'a> {
    pub(super) tokens: &'a mut Tokens,
    /// Whose request it is.
    pub(super) token: &'a str,
    /// The whole path, for ids of leases.
    pub(super) path: &'a str,
    pub(super) now: Moment,
}

/// A place in a namespace: both without slashes at their ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) path: String,
}

impl Place {
    pub(super) fn new(namespace: &str, path: &str) -> Self {
        Self { namespace: namespace.to_owned(), path: path.trim_matches('/').to_owned() }
    }
}

/// All that a Vault knows.
pub(super) struct Vault {
    pub(super) namespaces: BTreeSet<String>,
    pub(super) engines: BTreeMap<Place, Engine>,
    pub(super) methods: BTreeMap<Place, Method>,
    pub(super) policies: BTreeMap<Place, Policy>,
    pub(super) tokens: Tokens,
    /// Keys of the clusters whose TokenReview answers.
    pub(super) clusters: Vec<PublicKey>,
}

impl Vault {
    pub(super) fn new() -> Self {
        let mut tokens = Tokens::default();
        let root = Token {
            namespace: String::new(),
            policies: vec!["root".to_owned()],
            term: Term::new(0, 0, false, SystemClock.now()),
            login: String::new(),
            accessor: "accessor-root".to_owned(),
        };
        tokens.put(super::ROOT, root);
        Self {
            namespaces: BTreeSet::from([String::new()]),
            engines: BTreeMap::new(),
            methods: BTreeMap::new(),
            policies: BTreeMap::new(),
            tokens,
            clusters: Vec::new(),
        }
    }

    pub(super) fn trust(&mut self, cluster: &Cluster) {
        self.clusters.push(cluster.public_key());
    }

    pub(super) fn live_leases(&mut self) -> Vec<String> {
        self.tokens.expire(SystemClock.now());
        self.tokens.leases("")
    }

    pub(super) fn live_sessions(&mut self) -> usize {
        self.tokens.expire(SystemClock.now());
        self.tokens.logins()
    }

    pub(super) fn revoke_sessions(&mut self) {
        self.tokens.revoke_logins(SystemClock.now());
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, asked: &Asked) -> Answer {
        let now = SystemClock.now();
        self.tokens.expire(now);
        self.route(asked, now).unwrap_or_else(|refusal| refusal)
    }

    fn route(&mut self, asked: &Asked, now: Moment) -> Answered {
        if asked.path == "sys/health" {
            return Ok(super::sys::health());
        }
        let place = self.place(asked)?;
        if let Some((method, rest)) = self.method_at(&place)
            && rest == "login"
            && asked.is_write()
        {
            return self.login(&method, asked, now);
        }
        let name = asked.token.clone().ok_or_else(Answer::denied)?;
        let token = self.tokens.get(&name).cloned().ok_or_else(Answer::denied)?;
        match (asked.method.as_str(), place.path.as_str()) {
            // Everybody may do this to the own token.
            ("GET", "auth/token/lookup-self") => return self.tokens.lookup_self(&name, now),
            ("POST", "auth/token/renew-self") => return self.tokens.renew_self(&name, asked, now),
            ("POST", "auth/token/revoke-self") => {
                self.tokens.revoke(&name, now);
                return Ok(Answer::done());
            }
            _ => {}
        }
        if let Some(path) = place.path.strip_prefix("sys/internal/ui/mounts/") {
            return self.mount_of(&token, &Place::new(&place.namespace, path));
        }
        if !self.allowed(&token, &place, &asked.method) {
            return Err(Answer::denied());
        }
        if let Some(path) = place.path.strip_prefix("sys/") {
            return self.sys(&Place::new(&place.namespace, path), asked, now);
        }
        if let Some(path) = place.path.strip_prefix("auth/") {
            return self.auth(&Place::new(&place.namespace, path), asked, now);
        }
        let Some((at, rest)) = self.engine_at(&place) else {
            let said = format!("no handler for route {:?}. route entry not found.", place.path);
            return Err(Answer::error(404, &said));
        };
        let context = Context { tokens: &mut self.tokens, token: &name, path: &place.path, now };
        match self.engines.get_mut(&at) {
            Some(Engine::Kv1(kv)) => kv.answer(&rest, asked),
            Some(Engine::Kv2(kv)) => kv.answer(&rest, asked),
            Some(Engine::Database(database)) => database.answer(&rest, asked, context),
            Some(Engine::Pki(pki)) => pki.answer(&rest, asked, context),
            Some(Engine::Transit(transit)) => transit.answer(&rest, asked),
            None => Err(Answer::missing()),
        }
    }

    /// The namespace may come in the header, in the path, or partly in both.
    fn place(&self, asked: &Asked) -> Result<Place, Answer> {
        let whole = match asked.namespace.as_str() {
            "" => asked.path.clone(),
            namespace => format!("{namespace}/{}", asked.path),
        };
        if !self.namespaces.contains(&asked.namespace) {
            return Err(Answer::error(404, "namespace not found"));
        }
        let inside = self.namespaces.iter().rev().find_map(|namespace| {
            let rest = if namespace.is_empty() {
                Some(whole.as_str())
            } else {
                whole.strip_prefix(namespace.as_str()).and_then(|rest| rest.strip_prefix('/'))
            };
            rest.map(|rest| Place::new(namespace, rest))
        });
        inside.ok_or_else(Answer::missing)
    }

    pub(super) fn engine_at(&self, place: &Place) -> Option<(Place, String)> {
        longest(self.engines.keys(), place)
    }

    fn method_at(&self, place: &Place) -> Option<(Place, String)> {
        let path = place.path.strip_prefix("auth/")?;
        longest(self.methods.keys(), &Place::new(&place.namespace, path))
    }

    fn rules(&self, token: &Token) -> Vec<&Policy> {
        let named = token.policies.iter();
        named.filter_map(|name| self.policies.get(&Place::new(&token.namespace, name))).collect()
    }

    fn allowed(&self, token: &Token, place: &Place, method: &str) -> bool {
        if token.policies.iter().any(|name| name == "root") {
            return true;
        }
        let Some(path) = seen_from(&token.namespace, place) else { return false };
        let capability = match method {
            "GET" => "read",
            "LIST" => "list",
            "DELETE" => "delete",
            _ => "update",
        };
        let default = Policy::default_policy();
        let mut rules = self.rules(token);
        rules.push(&default);
        policy::allows(&rules, &path, capability)
            || (capability == "update" && policy::allows(&rules, &path, "create"))
    }

    /// `sys/internal/ui/mounts/<path>`: for those who may do something in the mount.
    fn mount_of(&self, token: &Token, place: &Place) -> Answered {
        let refused = || {
            let said = format!(
                "preflight capability check returned 403, please ensure client's policies grant access to path \"{}/\"",
                place.path
            );
            Answer::error(403, &said)
        };
        let (at, _) = self.engine_at(place).ok_or_else(refused)?;
        let root = token.policies.iter().any(|name| name == "root");
        let prefix = seen_from(&token.namespace, &at).map(|path| path + "/");
        let touched = prefix
            .is_some_and(|prefix| self.rules(token).iter().any(|policy| policy.touches(&prefix)));
        if !root && !touched {
            return Err(refused());
        }
        let engine = self.engines.get(&at).ok_or_else(refused)?;
        Ok(super::sys::describe_mount(&at, engine))
    }
}

/// The deepest of `mounts` that holds `place`, and the rest of the path in it.
fn longest<'a>(mounts: impl Iterator<Item = &'a Place>, place: &Place) -> Option<(Place, String)> {
    mounts
        .filter(|mount| mount.namespace == place.namespace)
        .filter_map(|mount| {
            let rest = place.path.strip_prefix(&mount.path)?;
            let rest = if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }?;
            Some((mount.clone(), rest.to_owned()))
        })
        .max_by_key(|(mount, _)| mount.path.len())
}

/// A place as policies of `namespace` write it; `None` when it lies outside.
fn seen_from(namespace: &str, place: &Place) -> Option<String> {
    let whole = match place.namespace.as_str() {
        "" => place.path.clone(),
        inside => format!("{inside}/{}", place.path),
    };
    match namespace {
        "" => Some(whole),
        own => whole.strip_prefix(own)?.strip_prefix('/').map(str::to_owned),
    }
}
