//! What a secret is to us, whatever serves it: a request, a response with its lease, and the port.
//!
//! See [`store::SecretStore`] first. This room knows Vault's vocabulary (paths, leases, the response
//! envelope) but neither its HTTP nor any client library; `vault` implements the port.

pub mod json;
pub mod request;
pub mod response;
pub mod store;
