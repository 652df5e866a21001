//! Vault and OpenBao over HTTP: the port `secret::store::SecretStore`, one pooled client a connection.
//!
//! See [`connections::Connections`] first, then `store`, where each call is endpoint -> transport ->
//! answer or typed error. The only room that knows vaultrs (whose request types are sent over a
//! transport of our own) and reqwest. What it refuses: environment variables and proxies of Vault's
//! client, redirects to where we did not mean to go, bodies over 1 MiB, tokens with line breaks.

mod answer;
mod body;
mod budget;
pub mod connections;
mod paths;
mod store;
pub mod tls;
mod transport;
