//! Credentials that are made when asked for and end with their lease, as of a database.

use std::collections::BTreeMap;

use serde_json::json;

use crate::fake_vault::exchange::{Answer, Answered, Asked};
use crate::fake_vault::tokens::Term;
use crate::fake_vault::vault::Context;

/// Seconds of a lease and of all its renewals, and what is asked for.
#[derive(Default)]
pub(super) struct Database {
    roles: BTreeMap<String, (u64, u64)>,
}

impl Database {
    pub(super) fn answer(&mut self, path: &str, asked: &Asked, context: Context<'_>) -> Answered {
        let (area, name) = path.split_once('/').unwrap_or((path, ""));
        match (asked.method.as_str(), area) {
            // There is no database behind it.
            ("POST", "config") => Ok(Answer::done()),
            ("POST", "roles") => {
                let ttl = asked.seconds("default_ttl").filter(|ttl| *ttl > 0).unwrap_or(3600);
                let max = asked.seconds("max_ttl").unwrap_or(0);
                self.roles.insert(name.to_owned(), (ttl, max));
                Ok(Answer::done())
            }
            ("DELETE", "roles") => {
                self.roles.remove(name);
                Ok(Answer::done())
            }
            ("GET", "creds") => {
                let unknown = || Answer::bad_request(&format!("unknown role: {name}"));
                let (ttl, max) = *self.roles.get(name).ok_or_else(unknown)?;
                let number = context.tokens.number();
                let data = json!({
                    "username": format!("v-kubernet-{name}-{number:08}"),
                    "password": format!("pw-{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                });
                let term = Term::new(ttl, max, true, context.now);
                let id = context.tokens.lease(context.path, context.token, term);
                Ok(Answer::leased(data, &id, term.ttl, true))
            }
            _ => Err(Answer::unsupported()),
        }
    }
}
