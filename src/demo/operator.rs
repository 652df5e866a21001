//! [`Operator`]: who sets a Vault up, over HTTP, and takes back what was set up.

use anyhow::Context;
use http::Method;
use serde_json::Value;
use tokio::sync::Mutex;

/// A hand with a strong token.
pub struct Operator {
    client: reqwest::Client,
    address: String,
    token: String,
    made: Mutex<Vec<String>>,
}

impl Operator {
    /// For the Vault at `address`.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(address: &str, token: &str) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder().no_proxy();
        // A machine may have no certificates of authorities; over http none are needed.
        let plain = !address.starts_with("https://");
        let client = if plain { builder.tls_certs_only([]) } else { builder }.build()?;
        let (address, token) = (address.trim_end_matches('/').to_owned(), token.to_owned());
        Ok(Self { client, address, token, made: Mutex::default() })
    }

    /// Sends a request; returns the body, null for none.
    ///
    /// # Errors
    /// Vault cannot be reached, or said no: with its words.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, body) = self.exchange(method.clone(), path, "", body).await?;
        anyhow::ensure!(status < 400, "{method} {path}: {status} {}", at(&body, &["errors"]));
        Ok(body)
    }

    /// Sends a request and returns whatever comes: status and body.
    ///
    /// # Errors
    /// Vault cannot be reached, or its body is no JSON.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        namespace: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}/v1/{path}", self.address);
        let mut request = self.client.request(method, url);
        // An empty token is none at all.
        if !self.token.is_empty() {
            request = request.header("x-vault-token", &self.token);
        }
        if !namespace.is_empty() {
            request = request.header("x-vault-namespace", namespace);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.with_context(|| format!("Vault at {}", self.address))?;
        let status = answer.status().as_u16();
        let text = answer.bytes().await?;
        let body = if text.is_empty() { Value::Null } else { serde_json::from_slice(&text)? };
        Ok((status, body))
    }

    /// The same Vault with another token.
    pub fn with_token(&self, token: &str) -> Self {
        let (client, address) = (self.client.clone(), self.address.clone());
        Self { client, address, token: token.to_owned(), made: Mutex::default() }
    }

    /// Writes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn write(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, &body).await
    }

    /// Reads.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn read(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, &Value::Null).await
    }

    /// Writes what did not exist and is to be deleted by [`Self::undo`].
    ///
    /// # Errors
    /// As [`Self::ask`]; a mount that exists already is one.
    pub async fn make(&self, path: &str, body: Value) -> anyhow::Result<()> {
        self.write(path, body).await?;
        self.made.lock().await.push(path.to_owned());
        Ok(())
    }

    /// Waits until a KV 2 mount takes writes at `path`: for a moment after it was made, it is
    /// "upgrading from non-versioned to versioned data".
    ///
    /// # Errors
    /// It still does not after a while: with its words.
    pub async fn until_ready(&self, path: &str) -> anyhow::Result<()> {
        let probe = serde_json::json!({ "data": { "ready": "yes" } });
        let mut last = Ok(());
        for _ in 0..1000 {
            last = self.write(path, probe.clone()).await.map(drop);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Deletes what was made, last first.
    ///
    /// # Errors
    /// Something stays, and which.
    pub async fn undo(&self) -> anyhow::Result<()> {
        while let Some(path) = self.made.lock().await.pop() {
            self.ask(Method::DELETE, &path, &Value::Null)
                .await
                .with_context(|| format!("{path} stays"))?;
        }
        Ok(())
    }

    /// Ids of the leases below `prefix`.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn leases(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("sys/leases/lookup/{}?list=true", prefix.trim_end_matches('/'));
        let (status, body) = self.exchange(Method::GET, &path, "", &Value::Null).await?;
        anyhow::ensure!(
            status == 200 || status == 404,
            "{path}: {status} {}",
            at(&body, &["errors"])
        );
        let keys = at(&body, &["data", "keys"]).as_array().cloned().unwrap_or_default();
        Ok(keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }
}

/// A value inside `body`; null when it is not there.
pub fn at<'a>(body: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().fold(body, |value, key| value.get(key).unwrap_or(&Value::Null))
}
