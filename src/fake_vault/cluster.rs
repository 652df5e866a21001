//! [`Cluster`]: makes service-account tokens as an API server does, for the pods of tests and demo.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use crate::fake_vault::jwt::{self, PublicKey};

/// Who issues the tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A key that signs tokens.
pub struct Cluster {
    key: EcdsaKeyPair,
}

/// What a token says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
    /// For whom.
    pub audience: String,
    /// How long from now on; an expired one is made with zero.
    pub lasts: Duration,
}

impl Cluster {
    /// A new cluster.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let key = made.ok().and_then(|pkcs8| {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).ok()
        });
        Ok(Self { key: key.context("no key can be made")? })
    }

    /// The key that tokens are checked with, in PEM: for `jwt_validation_pubkeys`.
    pub fn public_key_pem(&self) -> String {
        self.public_key().pem()
    }

    pub(super) fn public_key(&self) -> PublicKey {
        PublicKey::of(&self.key)
    }

    /// A token.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn token(&self, claims: &Claims) -> anyhow::Result<String> {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let issued = now.as_secs().saturating_sub(1);
        let Claims { namespace, service_account, pod, pod_uid, audience, lasts } = claims;
        let body = json!({
            "aud": [audience],
            "exp": (now + *lasts).as_secs(),
            "iat": issued,
            "nbf": issued,
            "iss": ISSUER,
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": { "name": pod, "uid": pod_uid },
                "serviceaccount": { "name": service_account, "uid": pod_uid },
            },
        });
        jwt::sign(&self.key, "demo", &body).context("nothing can be signed")
    }

    /// What a TokenReview of the API server would say about a token: its claims, if it is good.
    pub fn review(&self, token: &str) -> Option<Value> {
        self.public_key().check(token).filter(|claims| !is_over(claims))
    }
}

/// Whether `exp` has passed.
pub(super) fn is_over(claims: &Value) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    claims.get("exp").and_then(Value::as_u64).is_none_or(|ends| now.as_secs() >= ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(lasts: u64) -> Claims {
        Claims {
            namespace: "shop".into(),
            service_account: "app".into(),
            pod: "app-0".into(),
            pod_uid: "u".into(),
            audience: "vault".into(),
            lasts: Duration::from_secs(lasts),
        }
    }

    #[test]
    fn only_its_own_tokens_are_good_and_only_until_they_end() {
        let (cluster, other) = (Cluster::new().unwrap(), Cluster::new().unwrap());
        let good = cluster.token(&claims(60)).unwrap();
        let reviewed = cluster.review(&good).unwrap();
        assert_eq!(reviewed["sub"], "system:serviceaccount:shop:app");
        assert!(other.review(&good).is_none(), "another cluster's");
        assert!(cluster.review(&cluster.token(&claims(0)).unwrap()).is_none(), "expired");
        let pem = PublicKey::from_pem(&cluster.public_key_pem()).unwrap();
        assert!(pem == cluster.public_key());
        let mut forged = good.clone().into_bytes();
        let middle = forged.len() / 2;
        forged[middle] ^= 1;
        assert!(cluster.review(&String::from_utf8_lossy(&forged)).is_none(), "changed");
    }
}
