//! A fake Vault for the demo, the tests and the bench.
