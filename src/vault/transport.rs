//! [`Transport`]: one pooled client of one Vault: sends, follows at most one redirect, reads bounded.

use std::error::Error;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Url, redirect};

use crate::config::{Connection, Timeouts};
use crate::redact::{SecretBytes, SecretText};
use crate::secret::store::StoreError;
use crate::spec::mistake::{Mistake, mistake};
use crate::vault::body::{Incoming, wiped};
use crate::vault::budget::Turns;
use crate::vault::{answer, tls};

/// Idle connections that are kept.
const IDLE: usize = 16;

/// A request that is ready to be sent.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) namespace: &'a str,
    pub(super) token: Option<&'a SecretText>,
    pub(super) body: Option<Vec<u8>>,
}

/// An answer of any status.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: SecretBytes,
}

/// One client.
pub(super) struct Transport {
    client: Client,
    turns: Turns,
    timeouts: Timeouts,
    private_trust: bool,
}

impl Transport {
    pub(super) fn new(name: &str, connection: &Connection) -> Result<Self, Vec<Mistake>> {
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .referer(false)
            // Neither HTTPS_PROXY nor any other variable leads a token elsewhere.
            .no_proxy()
            .connect_timeout(connection.timeouts.connect)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(Duration::from_secs(60));
        let builder = if connection.address.starts_with("https://") {
            builder.tls_backend_preconfigured(tls::client(name, connection)?)
        } else {
            builder.tls_certs_only([])
        };
        let client = builder.build().map_err(|error| {
            let what = format!("no client can be made: {}", chain(&error));
            vec![mistake(&format!("vaults.{name}"), &what, "")]
        })?;
        Ok(Self {
            client,
            turns: Turns::new(connection.budget),
            timeouts: connection.timeouts,
            private_trust: connection.ca_file.is_some(),
        })
    }

    /// Sends, within the connection's timeout and budget.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Reply, StoreError> {
        let turn = self.turns.take().await;
        let body = call.body.map(wiped);
        let work = async {
            let headers = headers(call.namespace, call.token)?;
            let mut url = call.url;
            let mut redirected = false;
            loop {
                let mut request = self.client.request(call.method.clone(), url.clone());
                request = request.headers(headers.clone());
                if let Some(body) = &body {
                    request = request.body(body.clone());
                }
                let reply = self.once(request).await?;
                if reply.status != StatusCode::TEMPORARY_REDIRECT || redirected {
                    return Ok(reply);
                }
                redirected = true;
                url = self.follow(&url, &reply.headers)?;
            }
        };
        let outcome = tokio::time::timeout(self.timeouts.request, work).await;
        drop(turn);
        outcome.unwrap_or(Err(StoreError::Timeout { after: self.timeouts.request }))
    }

    async fn once(&self, request: reqwest::RequestBuilder) -> Result<Reply, StoreError> {
        let mut response = request.send().await.map_err(|error| self.classify(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let length =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Incoming::new(length)?;
        while let Some(part) = response.chunk().await.map_err(|error| self.classify(&error))? {
            body.add(&part)?;
        }
        Ok(Reply { status, headers, body: body.whole() })
    }

    /// A standby sends its clients to the active node. The token goes there only over a connection
    /// that is as trusted as the first one: the same host, or TLS under the same private CA.
    fn follow(&self, from: &Url, headers: &HeaderMap) -> Result<Url, StoreError> {
        let to = headers.get(LOCATION).and_then(|value| from.join(value.to_str().ok()?).ok());
        let to =
            to.ok_or_else(|| StoreError::Malformed { said: "a redirect to nowhere".into() })?;
        let same = to.origin() == from.origin();
        let trusted = from.scheme() == "https" && to.scheme() == "https" && self.private_trust;
        if same || trusted {
            return Ok(to);
        }
        let host = to.host_str().unwrap_or_default();
        let said = answer::clean(&format!(
            "it sends us to {}://{host}, which is not followed",
            to.scheme()
        ));
        Err(StoreError::Failed { status: 307, said })
    }

    fn classify(&self, error: &reqwest::Error) -> StoreError {
        let said = answer::clean(&chain(error));
        if is_tls(error) {
            return StoreError::Tls { said };
        }
        if error.is_connect() {
            return StoreError::Unreachable { said };
        }
        if error.is_timeout() {
            return StoreError::Timeout { after: self.timeouts.request };
        }
        StoreError::Broken { said }
    }
}

fn headers(namespace: &str, token: Option<&SecretText>) -> Result<HeaderMap, StoreError> {
    let wrong = |what: &str| StoreError::BadRequest { said: format!("{what} cannot be sent") };
    let mut headers = HeaderMap::new();
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if !namespace.is_empty() {
        let value = HeaderValue::from_str(namespace).map_err(|_| wrong("the namespace"))?;
        headers.insert("x-vault-namespace", value);
    }
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(token.expose()).map_err(|_| wrong("the token"))?;
        value.set_sensitive(true);
        headers.insert("x-vault-token", value);
    }
    Ok(headers)
}

/// The error and what is behind it, without the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut said = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if said.last() != Some(&text) {
            said.push(text);
        }
        next = error.source();
    }
    if said.is_empty() { "no more is known".to_owned() } else { said.join(": ") }
}

/// Whether TLS said no. An `io::Error` hides what it wraps from `source`, and they come nested.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|inner| is_tls(inner))
        || error.source().is_some_and(is_tls)
}
