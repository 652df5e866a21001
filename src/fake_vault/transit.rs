//! Encryption with keys that stay here (AES-256-GCM).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use crate::fake_vault::exchange::{Answer, Answered, Asked};

const PREFIX: &str = "vault:v1:";

/// Keys by name.
#[derive(Default)]
pub(super) struct Transit(BTreeMap<String, LessSafeKey>);

impl Transit {
    pub(super) fn answer(&mut self, path: &str, asked: &Asked) -> Answered {
        let (area, name) = path.split_once('/').unwrap_or((path, ""));
        match (asked.method.as_str(), area) {
            ("POST", "keys") => {
                self.0.insert(name.to_owned(), key().ok_or_else(broken)?);
                Ok(Answer::done())
            }
            ("POST", "encrypt") => {
                if !self.0.contains_key(name) {
                    // As Vault does for those who may create keys.
                    self.0.insert(name.to_owned(), key().ok_or_else(broken)?);
                }
                let key = self.0.get(name).ok_or_else(broken)?;
                let plain = decoded(asked.text("plaintext"), "plaintext")?;
                let sealed = seal(key, plain).ok_or_else(broken)?;
                let ciphertext = format!("{PREFIX}{}", STANDARD.encode(sealed));
                Ok(Answer::data(json!({ "ciphertext": ciphertext, "key_version": 1 })))
            }
            ("POST", "decrypt") => {
                let unknown = || Answer::bad_request("encryption key not found");
                let key = self.0.get(name).ok_or_else(unknown)?;
                let text = asked.text("ciphertext").strip_prefix(PREFIX);
                let text =
                    text.ok_or_else(|| Answer::bad_request("invalid ciphertext: no prefix"))?;
                let plain = open(key, decoded(text, "ciphertext")?);
                let plain = plain
                    .ok_or_else(|| Answer::bad_request("cipher: message authentication failed"))?;
                Ok(Answer::data(json!({ "plaintext": STANDARD.encode(plain) })))
            }
            _ => Err(Answer::unsupported()),
        }
    }
}

fn broken() -> Answer {
    Answer::error(500, "no randomness")
}

fn decoded(text: &str, what: &str) -> Result<Vec<u8>, Answer> {
    STANDARD
        .decode(text)
        .map_err(|_| Answer::bad_request(&format!("failed to base64-decode {what}")))
}

fn key() -> Option<LessSafeKey> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)
}

fn seal(key: &LessSafeKey, mut plain: Vec<u8>) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    let sealed = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(sealed, Aad::empty(), &mut plain).ok()?;
    Some([nonce.as_slice(), &plain].concat())
}

fn open(key: &LessSafeKey, sealed: Vec<u8>) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = body.to_vec();
    key.open_in_place(nonce, Aad::empty(), &mut body).ok().map(|plain| plain.to_vec())
}
