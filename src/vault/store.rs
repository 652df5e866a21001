//! [`VaultStore`]: the port `SecretStore` over one connection.
//!
//! Each call: vaultrs' request type (or a plain path) -> [`Transport`] -> `answer` -> our own types.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use rustify::Endpoint;
use vaultrs::api::auth::kubernetes::requests::LoginWithKubernetesRequest;
use vaultrs::api::auth::oidc::requests::JWTLoginRequest;
use vaultrs::api::token::requests::{RenewTokenSelfRequest, RevokeTokenSelfRequest};
use zeroize::Zeroize as _;

use crate::config::Connection;
use crate::identity::session::{AuthMethod, SessionKey};
use crate::identity::token::ServiceAccountToken;
use crate::redact::{SecretBytes, SecretText};
use crate::secret::json::Json;
use crate::secret::request::{SecretRequest, Verb};
use crate::secret::response::SecretResponse;
use crate::secret::store::{LeaseTerms, Mount, SecretStore, Session, StoreError};
use crate::spec::mistake::Mistake;
use crate::vault::transport::{Call, Reply, Transport};
use crate::vault::{answer, paths};

/// One connection.
pub(super) struct VaultStore {
    address: String,
    transport: Transport,
}

/// What is asked: method, path below `/v1/`, query, body.
struct Ask {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    body: Option<Vec<u8>>,
}

impl Ask {
    /// What a request type of vaultrs asks.
    fn of(endpoint: &impl Endpoint, method: Method) -> Result<Self, StoreError> {
        // Its errors keep whole bodies: they are not looked into.
        let wrong = |_| StoreError::BadRequest { said: "the request cannot be written".into() };
        let body = endpoint.body().map_err(wrong)?;
        let path = endpoint.path().trim().trim_matches('/').to_owned();
        Ok(Self { method, path, query: BTreeMap::new(), body })
    }

    fn get(path: String) -> Self {
        Self { method: Method::GET, path, query: BTreeMap::new(), body: None }
    }
}

impl VaultStore {
    pub(super) fn new(name: &str, connection: &Connection) -> Result<Self, Vec<Mistake>> {
        let transport = Transport::new(name, connection)?;
        Ok(Self { address: connection.address.clone(), transport })
    }

    async fn send(
        &self,
        who: &SessionKey,
        token: Option<&SecretText>,
        ask: Ask,
    ) -> Result<Reply, StoreError> {
        let url = paths::url(&self.address, &ask.path, &ask.query);
        let said = || StoreError::BadRequest { said: "the path makes no address".to_owned() };
        let url = url.ok_or_else(said)?;
        let (method, body) = (ask.method, ask.body);
        let call = Call { method, url, namespace: &who.namespace, token, body };
        answer::success(self.transport.send(call).await?)
    }
}

fn json(body: &SecretBytes) -> Result<Json, StoreError> {
    Json::parse(body.expose()).map_err(|error| StoreError::Malformed { said: error.to_string() })
}

fn missing(what: &str) -> StoreError {
    StoreError::Malformed { said: format!("it has no {what}") }
}

/// Duration and renewability, as `auth` and leases write them.
fn terms(object: &Json, id: String) -> LeaseTerms {
    let seconds = object.get("lease_duration").and_then(Json::as_u64).unwrap_or_default();
    let renewable = object.get("renewable").and_then(Json::as_bool).unwrap_or_default();
    LeaseTerms { id, duration: Duration::from_secs(seconds), renewable }
}

#[async_trait]
impl SecretStore for VaultStore {
    async fn login(
        &self,
        who: &SessionKey,
        token: &ServiceAccountToken,
    ) -> Result<Session, StoreError> {
        let (mount, role) = (who.auth_path.clone(), who.role.clone());
        let jwt = token.jwt.expose().clone();
        let ask = match who.auth_method {
            AuthMethod::Kubernetes => {
                let mut request = LoginWithKubernetesRequest { mount, role, jwt };
                let ask = Ask::of(&request, Method::POST);
                request.jwt.zeroize();
                ask?
            }
            AuthMethod::Jwt => {
                let mut request = JWTLoginRequest { mount, jwt, role: Some(role) };
                let ask = Ask::of(&request, Method::POST);
                request.jwt.zeroize();
                ask?
            }
        };
        let reply = self.send(who, None, ask).await?;
        let body = json(&reply.body)?;
        let auth = body.get("auth").ok_or_else(|| missing("auth"))?;
        let token = auth.get("client_token").and_then(Json::as_str);
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| missing("token"))?;
        let terms = terms(auth, String::new());
        Ok(Session { token: SecretText::new(token.to_owned()), terms })
    }

    async fn mount_of(
        &self,
        who: &SessionKey,
        token: &SecretText,
        path: &str,
    ) -> Result<Mount, StoreError> {
        let ask = Ask::get(format!("sys/internal/ui/mounts/{path}"));
        let reply = match self.send(who, Some(token), ask).await {
            Ok(reply) => reply,
            // The token may not know; then the path is taken as it is written, as Vault Agent does.
            Err(StoreError::Denied { .. } | StoreError::Missing { .. }) => {
                return Ok(Mount { path: String::new(), kv2: false });
            }
            Err(error) => return Err(error),
        };
        let body = json(&reply.body)?;
        let data = body.get("data").ok_or_else(|| missing("data"))?;
        let path = data.get("path").and_then(Json::as_str).ok_or_else(|| missing("path"))?;
        let kind = data.get("type").and_then(Json::as_str);
        let version = data.get("options").and_then(|options| options.get("version"));
        let kv2 = matches!(kind, Some("kv" | "generic"))
            && version.and_then(Json::as_str).is_some_and(|version| version == "2");
        Ok(Mount { path: path.to_owned(), kv2 })
    }

    async fn read(
        &self,
        who: &SessionKey,
        token: &SecretText,
        mount: &Mount,
        request: &SecretRequest,
    ) -> Result<SecretResponse, StoreError> {
        let (path, kv2) = paths::read(mount, &request.path);
        let mut ask = Ask { query: request.query.clone(), ..Ask::get(path) };
        if request.verb == Verb::Write {
            ask.method = Method::PUT;
            ask.body = Some(serde_json::to_vec(&request.args).unwrap_or_default());
        }
        let reply = self.send(who, Some(token), ask).await?;
        if reply.body.expose().is_empty() {
            return Err(StoreError::Malformed { said: "it is empty".to_owned() });
        }
        SecretResponse::parse(reply.body, kv2)
            .map_err(|error| StoreError::Malformed { said: error.to_string() })
    }

    async fn renew_session(
        &self,
        who: &SessionKey,
        token: &SecretText,
        increment: Duration,
    ) -> Result<LeaseTerms, StoreError> {
        let increment = Some(format!("{}s", increment.as_secs()));
        let ask = Ask::of(&RenewTokenSelfRequest { increment }, Method::POST)?;
        let reply = self.send(who, Some(token), ask).await?;
        let body = json(&reply.body)?;
        let auth = body.get("auth").ok_or_else(|| missing("auth"))?;
        Ok(terms(auth, String::new()))
    }

    async fn renew_lease(
        &self,
        who: &SessionKey,
        token: &SecretText,
        lease_id: &str,
        increment: Duration,
    ) -> Result<LeaseTerms, StoreError> {
        let body = serde_json::json!({ "lease_id": lease_id, "increment": increment.as_secs() });
        let ask = Ask {
            method: Method::PUT,
            path: "sys/leases/renew".to_owned(),
            query: BTreeMap::new(),
            body: Some(body.to_string().into_bytes()),
        };
        let reply = self.send(who, Some(token), ask).await?;
        let body = json(&reply.body)?;
        Ok(terms(&body, lease_id.to_owned()))
    }

    async fn revoke_session(&self, who: &SessionKey, token: &SecretText) -> Result<(), StoreError> {
        let ask = Ask::of(&RevokeTokenSelfRequest {}, Method::POST)?;
        self.send(who, Some(token), ask).await.map(drop)
    }
}
