//! A certificate authority: a root, roles, `issue`.
//! <https://developer.hashicorp.com/vault/api-docs/secret/pki>

use std::collections::BTreeMap;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use serde_json::json;

use crate::clock::{Clock as _, SystemClock};
use crate::fake_vault::exchange::{Answer, Answered, Asked};
use crate::fake_vault::tokens::Term;
use crate::fake_vault::vault::Context;

struct Root {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

#[derive(Clone)]
struct Role {
    any: bool,
    domains: Vec<String>,
    subdomains: bool,
    bare: bool,
    ttl: u64,
    lease: bool,
}

/// One authority.
#[derive(Default)]
pub(super) struct Pki {
    root: Option<Root>,
    roles: BTreeMap<String, Role>,
}

impl Pki {
    pub(super) fn answer(&mut self, path: &str, asked: &Asked, context: Context<'_>) -> Answered {
        let flag = |key: &str| {
            asked.body.get(key).and_then(serde_json::Value::as_bool).unwrap_or_default()
        };
        match (asked.method.as_str(), path.split_once('/').unwrap_or((path, ""))) {
            ("POST", ("root", "generate/internal")) => {
                let root = root(asked.text("common_name")).ok_or_else(broken)?;
                let certificate = root.certificate.clone();
                self.root = Some(root);
                Ok(Answer::data(json!({ "certificate": certificate })))
            }
            ("POST", ("roles", name)) => {
                let role = Role {
                    any: flag("allow_any_name"),
                    domains: asked.list("allowed_domains"),
                    subdomains: flag("allow_subdomains"),
                    bare: flag("allow_bare_domains"),
                    ttl: asked.seconds("ttl").or(asked.seconds("max_ttl")).unwrap_or(3600),
                    lease: flag("generate_lease"),
                };
                self.roles.insert(name.to_owned(), role);
                Ok(Answer::data(serde_json::Value::Null))
            }
            ("POST", ("issue", name)) => self.issue(name, asked, context),
            _ => Err(Answer::unsupported()),
        }
    }

    fn issue(&self, name: &str, asked: &Asked, context: Context<'_>) -> Answered {
        let unknown = || Answer::bad_request(&format!("unknown role: {name}"));
        let role = self.roles.get(name).ok_or_else(unknown)?;
        let common_name = asked.text("common_name");
        if common_name.is_empty() {
            let said = "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, unless \"require_cn\" is set to false";
            return Err(Answer::bad_request(said));
        }
        if !role.allows(common_name) {
            let said = format!("common name {common_name} not allowed by this role");
            return Err(Answer::bad_request(&said));
        }
        let no_root = || {
            Answer::error(
                500,
                "error fetching CA certificate: no default issuer currently configured",
            )
        };
        let root = self.root.as_ref().ok_or_else(no_root)?;
        let ttl = asked.seconds("ttl").unwrap_or(role.ttl);
        let number = context.tokens.number();
        let ends = SystemClock.wall() + Duration::from_secs(ttl);
        let made = leaf(root, common_name, number, ends).ok_or_else(broken)?;
        let expiration = ends.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let data = json!({
            "ca_chain": [root.certificate],
            "certificate": made.0,
            "expiration": expiration,
            "issuing_ca": root.certificate,
            "private_key": made.1,
            "private_key_type": "ec",
            "serial_number": format!("{:02x}:{:02x}:{:02x}", number >> 16 & 255, number >> 8 & 255, number & 255),
        });
        if !role.lease {
            return Ok(Answer::data(data));
        }
        let term = Term::new(ttl, ttl, false, context.now);
        let id = context.tokens.lease(context.path, context.token, term);
        Ok(Answer::leased(data, &id, ttl, false))
    }
}

impl Role {
    fn allows(&self, name: &str) -> bool {
        self.any
            || self.domains.iter().any(|domain| {
                (self.bare && name == domain)
                    || (self.subdomains && name.ends_with(&format!(".{domain}")))
            })
    }
}

fn broken() -> Answer {
    Answer::error(500, "the certificate cannot be made")
}

fn root(common_name: &str) -> Option<Root> {
    let mut params = CertificateParams::new(Vec::new()).ok()?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().ok()?;
    let certificate = params.self_signed(&key).ok()?.pem();
    Some(Root { certificate, issuer: Issuer::new(params, key) })
}

/// Certificate and key, in PEM without the last line break, as Vault gives them.
fn leaf(
    root: &Root,
    common_name: &str,
    number: u64,
    ends: std::time::SystemTime,
) -> Option<(String, String)> {
    let mut params = CertificateParams::new(vec![common_name.to_owned()]).ok()?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from(number));
    params.not_after = ends.into();
    let key = KeyPair::generate().ok()?;
    let certificate = params.signed_by(&key, &root.issuer).ok()?.pem();
    Some((certificate.trim_end().to_owned(), key.serialize_pem().trim_end().to_owned()))
}
