//! [`Connections`]: every Vault of the configuration, by name, as configured now.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::secret::store::{SecretStore, Stores};
use crate::spec::mistake::Mistake;
use crate::vault::store::VaultStore;

type Named = BTreeMap<String, Arc<VaultStore>>;

/// The connections, replaced whole when the configuration changes.
pub struct Connections(ArcSwap<Named>);

impl Connections {
    /// Makes a client for each; reads certificates, calls nobody.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn new(config: &Config) -> Result<Self, Vec<Mistake>> {
        Ok(Self(ArcSwap::from_pointee(clients(config)?)))
    }

    /// Takes up a changed configuration. Requests under way end over the old clients.
    ///
    /// # Errors
    /// Every file that cannot be used; then nothing has changed.
    pub fn replace(&self, config: &Config) -> Result<(), Vec<Mistake>> {
        self.0.store(Arc::new(clients(config)?));
        Ok(())
    }
}

fn clients(config: &Config) -> Result<Named, Vec<Mistake>> {
    let mut named = Named::new();
    let mut mistakes = Vec::new();
    for (name, connection) in &config.vaults {
        match VaultStore::new(name, connection) {
            Ok(store) => drop(named.insert(name.clone(), Arc::new(store))),
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.is_empty() { Ok(named) } else { Err(mistakes) }
}

impl Stores for Connections {
    fn store(&self, connection: &str) -> Option<Arc<dyn SecretStore>> {
        let store = self.0.load().get(connection).map(Arc::clone);
        store.map(|store| store as Arc<dyn SecretStore>)
    }
}
