//! How a [`Holding`] is written down, so that another driver can go on with it and asks Vault nothing.
//!
//! ```text
//! key          whose it is                       token        the pod's service-account token
//! session/N    a Vault token, and until when     mounts       which engines serve which paths
//! answer/ID    Vault's answer to one request     terms/ID     its lease
//! ```
//!
//! Everything is written before anybody uses it: a session that is not written down is one that nobody revokes.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::identity::session::SessionKey;
use crate::identity::token::ServiceAccountToken;
use crate::kept::journal::{Batch, Journal};
use crate::kept::value::{decode, encode};
use crate::lease::holding::{Holding, State};
use crate::lease::secret::{Have, KeptTerms};
use crate::lease::session::{KeptSession, Live};
use crate::redact::{SecretBytes, SecretText};
use crate::secret::request::SecretRequest;
use crate::secret::response::SecretResponse;
use crate::secret::store::Mount;

/// What of a holding has changed.
pub(super) enum Part<'a> {
    /// The service-account token.
    Token,
    /// A session, or its term.
    Sessions,
    /// A session is revoked, or Vault no longer knows it.
    Gone(u64),
    /// Which engines serve which paths.
    Mounts,
    /// An answer came or went.
    Answer(&'a SecretRequest),
    /// The lease of an answer.
    Terms(&'a SecretRequest),
}

#[derive(Serialize, Deserialize)]
struct KeptMounts {
    mounts: Vec<(String, bool)>,
    unmounted: Vec<String>,
    logins: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    request: SecretRequest,
    kv2: bool,
    session: u64,
}

/// A short name of a request.
fn id(request: &SecretRequest) -> String {
    use sha2::Digest as _;
    let text = serde_json::to_vec(request).unwrap_or_default();
    let hash = sha2::Sha256::digest(text);
    hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// The name that a holding is kept under: of two with one key, the later is another.
pub(super) fn name(key: &SessionKey, now: Moment) -> String {
    use sha2::Digest as _;
    let text = serde_json::to_vec(key).unwrap_or_default();
    let hash = sha2::Sha256::digest(text);
    let hash: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let born = now.saturating_since(Moment::default()).as_nanos();
    format!("session/{hash}-{born:x}")
}

impl Holding {
    /// Writes down what has changed, in one piece.
    pub(super) fn keep(&self, state: &State, parts: &[Part<'_>]) {
        if !self.journal.keeps() {
            return;
        }
        let mut batch = Batch::new();
        for part in parts {
            write(&mut batch, state, part);
        }
        self.journal.append(&batch);
    }

    /// A journal begins with whose it is.
    pub(super) fn keep_key(&self) {
        let mut batch = Batch::new();
        batch.put("key", encode(&*self.key, &[]));
        self.journal.append(&batch);
    }

    /// Only the sessions stay, until they are revoked: what the pod was given is wiped.
    pub(super) fn keep_sessions_only(&self) {
        let mut batch = Batch::new();
        for key in self.journal.entries().into_keys() {
            if !key.starts_with(b"session/") && key != b"key" {
                batch.delete(key);
            }
        }
        self.journal.append(&batch);
        self.journal.compact();
    }
}

fn write(batch: &mut Batch, state: &State, part: &Part<'_>) {
    match part {
        Part::Token => {
            if let Some(ServiceAccountToken { jwt, expires }) = &state.token {
                batch.put("token", encode(expires, jwt.expose().as_bytes()));
            }
        }
        Part::Sessions => {
            let retired = state.retired.iter().map(|(live, since)| (live, Some(*since)));
            for (live, since) in state.live.iter().map(|live| (live, None)).chain(retired) {
                let token = live.session.token.expose().as_bytes();
                batch.put(format!("session/{}", live.number), encode(&live.keep(since), token));
            }
        }
        Part::Gone(number) => batch.delete(format!("session/{number}")),
        Part::Mounts => {
            let mounts = state.mounts.iter().map(|mount| (mount.path.clone(), mount.kv2)).collect();
            let unmounted = state.unmounted.clone();
            let kept = KeptMounts { mounts, unmounted, logins: state.logins };
            batch.put("mounts", encode(&kept, &[]));
        }
        Part::Answer(request) => {
            let id = id(request);
            match state.secrets.get(request).and_then(|secret| secret.have.as_ref()) {
                Some(have) => {
                    let (kv2, session) = (have.response.kv2, have.session);
                    let kept = KeptAnswer { request: (*request).clone(), kv2, session };
                    batch.put(format!("answer/{id}"), encode(&kept, have.response.envelope()));
                    batch.put(format!("terms/{id}"), encode(&have.keep(), &[]));
                }
                None => {
                    batch.delete(format!("answer/{id}"));
                    batch.delete(format!("terms/{id}"));
                }
            }
        }
        Part::Terms(request) => {
            if let Some(have) = state.secrets.get(request).and_then(|secret| secret.have.as_ref()) {
                batch.put(format!("terms/{}", id(request)), encode(&have.keep(), &[]));
            }
        }
    }
}

/// Whose a journal is, and what it holds; `None` when it does not fit together.
pub(super) fn restore(journal: &Journal) -> Option<(SessionKey, State)> {
    let entries = journal.entries();
    let (key, _) = decode::<SessionKey>(&entries.get(b"key".as_slice())?.value)?;
    let mut state = State::default();
    let mut sessions = Vec::new();
    for (name, entry) in &entries {
        let name = str::from_utf8(name).ok()?;
        match name.split_once('/').unwrap_or((name, "")) {
            ("token", _) => {
                let (expires, jwt) = decode::<SystemTime>(&entry.value)?;
                state.token = Some(ServiceAccountToken { jwt: text(jwt)?, expires });
            }
            ("mounts", _) => {
                let (kept, _) = decode::<KeptMounts>(&entry.value)?;
                let mounts = kept.mounts.into_iter().map(|(path, kv2)| Mount { path, kv2 });
                (state.mounts, state.unmounted) = (mounts.collect(), kept.unmounted);
                state.logins = state.logins.max(kept.logins);
            }
            ("session", number) => {
                let number: u64 = number.parse().ok()?;
                let (kept, token) = decode::<KeptSession>(&entry.value)?;
                state.logins = state.logins.max(number);
                sessions.push((Live::restore(number, &kept, text(token)?), kept.retired));
            }
            ("answer", id) => {
                let (kept, body) = decode::<KeptAnswer>(&entry.value)?;
                let terms = entries.get(format!("terms/{id}").as_bytes())?;
                let (terms, _) = decode::<KeptTerms>(&terms.value)?;
                let body = SecretBytes::new(body.to_vec());
                let response = SecretResponse::parse(body, kept.kv2).ok()?;
                let have = Have::restore(response.into(), kept.session, &terms);
                state.secrets.entry(kept.request).or_default().have = Some(have);
            }
            // Read with its answer, or of a later version.
            _ => {}
        }
    }
    // The newest that was not succeeded is in use.
    sessions.sort_by_key(|(live, _)| live.number);
    for (live, retired) in sessions {
        match retired {
            Some(since) => state.retired.push((live, since)),
            None => {
                let asked = Moment::default();
                state.retired.extend(state.live.replace(live).map(|older| (older, asked)));
            }
        }
    }
    Some((key, state))
}

fn text(bytes: &[u8]) -> Option<SecretText> {
    String::from_utf8(bytes.to_vec()).ok().map(SecretText::new)
}
