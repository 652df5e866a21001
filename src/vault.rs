//! The adapter to Vault's HTTP API.
