//! Tokens and leases: how long they live, and that leases die with their token.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::Moment;
use crate::fake_vault::exchange::{Answer, Answered, Asked};

/// A token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) namespace: String,
    pub(super) policies: Vec<String>,
    pub(super) term: Term,
    /// Where it logged in; empty for tokens made otherwise.
    pub(super) login: String,
    pub(super) accessor: String,
}

/// How long something lives.
#[derive(Clone, Copy)]
pub(super) struct Term {
    /// Seconds per grant; 0 for ever.
    pub(super) ttl: u64,
    /// Seconds in all; 0 for no limit.
    max: u64,
    pub(super) renewable: bool,
    born: Moment,
    ends: Option<Moment>,
}

impl Term {
    pub(super) fn new(ttl: u64, max: u64, renewable: bool, now: Moment) -> Self {
        let ttl = if max > 0 { ttl.min(max) } else { ttl };
        let ends = (ttl > 0).then(|| now + Duration::from_secs(ttl));
        Self { ttl, max, renewable, born: now, ends }
    }

    fn is_over(&self, now: Moment) -> bool {
        self.ends.is_some_and(|ends| now >= ends)
    }

    /// Whole seconds left; 0 for one without end.
    pub(super) fn left(&self, now: Moment) -> u64 {
        self.ends.map_or(0, |ends| ends.saturating_since(now).as_secs())
    }

    /// Grants `seconds` more (the usual term when 0), within what is left of the maximum.
    fn renew(&mut self, seconds: u64, now: Moment) -> u64 {
        let wanted = if seconds == 0 { self.ttl } else { seconds };
        let cap = match self.max {
            0 => wanted,
            max => (self.born + Duration::from_secs(max)).saturating_since(now).as_secs(),
        };
        let granted = wanted.min(cap);
        self.ends = Some(now + Duration::from_secs(granted));
        granted
    }
}

struct Lease {
    token: String,
    term: Term,
}

/// All tokens and leases.
#[derive(Default)]
pub(super) struct Tokens {
    tokens: BTreeMap<String, Token>,
    leases: BTreeMap<String, Lease>,
    made: u64,
}

impl Tokens {
    /// Forgets what is over, and the leases of tokens that are gone.
    pub(super) fn expire(&mut self, now: Moment) {
        self.tokens.retain(|_, token| !token.term.is_over(now));
        let tokens = &self.tokens;
        self.leases
            .retain(|_, lease| !lease.term.is_over(now) && tokens.contains_key(&lease.token));
    }

    pub(super) fn get(&self, token: &str) -> Option<&Token> {
        self.tokens.get(token)
    }

    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Puts a token in under its own name.
    pub(super) fn put(&mut self, name: &str, token: Token) {
        self.tokens.insert(name.to_owned(), token);
    }

    /// Makes a token; returns the answer that a login gives.
    pub(super) fn make(&mut self, token: Token, metadata: &Value) -> Answer {
        let number = self.next();
        let name = format!("hvs.fake-{number:08}");
        let accessor = format!("accessor-{number:08}");
        let token = Token { accessor, ..token };
        let mut auth = describe(&name, &token, token.term.ttl);
        if let Value::Object(auth) = &mut auth {
            auth.insert("metadata".to_owned(), metadata.clone());
        }
        self.tokens.insert(name, token);
        Answer::auth(auth)
    }

    /// Makes a lease of `token` for a secret at `path`; returns its id.
    pub(super) fn lease(&mut self, path: &str, token: &str, term: Term) -> String {
        let id = format!("{path}/{:08}", self.next());
        self.leases.insert(id.clone(), Lease { token: token.to_owned(), term });
        id
    }

    /// A number that was not given out before.
    pub(super) fn number(&mut self) -> u64 {
        self.next()
    }

    pub(super) fn revoke(&mut self, token: &str, now: Moment) {
        self.tokens.remove(token);
        self.expire(now);
    }

    pub(super) fn revoke_logins(&mut self, now: Moment) {
        self.tokens.retain(|_, token| token.login.is_empty());
        self.expire(now);
    }

    pub(super) fn revoke_accessor(&mut self, accessor: &str, now: Moment) -> Answered {
        let before = self.tokens.len();
        self.tokens.retain(|_, token| token.accessor != accessor);
        if self.tokens.len() == before {
            return Err(Answer::error(403, "invalid accessor"));
        }
        self.expire(now);
        Ok(Answer::done())
    }

    /// `auth/token/renew-self`.
    pub(super) fn renew_self(&mut self, name: &str, asked: &Asked, now: Moment) -> Answered {
        let Some(token) = self.tokens.get_mut(name) else { return Err(Answer::denied()) };
        if !token.term.renewable {
            return Err(Answer::bad_request("lease is not renewable"));
        }
        let granted = token.term.renew(asked.seconds("increment").unwrap_or(0), now);
        Ok(Answer::auth(describe(name, token, granted)))
    }

    /// `auth/token/lookup-self`.
    pub(super) fn lookup_self(&self, name: &str, now: Moment) -> Answered {
        let Some(token) = self.get(name) else { return Err(Answer::denied()) };
        Ok(Answer::data(json!({
            "id": name,
            "accessor": token.accessor,
            "policies": token.policies,
            "path": if token.login.is_empty() { "auth/token/create" } else { &token.login },
            "renewable": token.term.renewable,
            "ttl": token.term.left(now),
            "creation_ttl": token.term.ttl,
            "type": "service",
        })))
    }

    /// `sys/leases/renew`.
    pub(super) fn renew_lease(&mut self, asked: &Asked, now: Moment) -> Answered {
        let id = asked.text("lease_id");
        let Some(lease) = self.leases.get_mut(id) else {
            return Err(Answer::bad_request("lease not found"));
        };
        if !lease.term.renewable {
            return Err(Answer::bad_request("lease is not renewable"));
        }
        let granted = lease.term.renew(asked.seconds("increment").unwrap_or(0), now);
        Ok(Answer::leased(Value::Null, id, granted, true))
    }

    /// `sys/leases/revoke`: unknown leases are fine, as in Vault.
    pub(super) fn revoke_lease(&mut self, id: &str) -> Answer {
        self.leases.remove(id);
        Answer::done()
    }

    /// `sys/leases/lookup`.
    pub(super) fn lookup_lease(&self, id: &str, now: Moment) -> Answered {
        let Some(lease) = self.leases.get(id) else {
            return Err(Answer::bad_request("invalid lease"));
        };
        let (ttl, renewable) = (lease.term.left(now), lease.term.renewable);
        Ok(Answer::data(json!({ "id": id, "ttl": ttl, "renewable": renewable })))
    }

    /// Ids of leases that begin with `prefix`.
    pub(super) fn leases(&self, prefix: &str) -> Vec<String> {
        self.leases.keys().filter(|id| id.starts_with(prefix)).cloned().collect()
    }

    pub(super) fn revoke_prefix(&mut self, prefix: &str) -> Answer {
        self.leases.retain(|id, _| !id.starts_with(prefix));
        Answer::done()
    }

    pub(super) fn logins(&self) -> usize {
        self.tokens.values().filter(|token| !token.login.is_empty()).count()
    }
}

fn describe(name: &str, token: &Token, seconds: u64) -> Value {
    json!({
        "client_token": name,
        "accessor": token.accessor,
        "policies": token.policies,
        "token_policies": token.policies,
        "metadata": null,
        "lease_duration": seconds,
        "renewable": token.term.renewable,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "num_uses": 0,
    })
}
