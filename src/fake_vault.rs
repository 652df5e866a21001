//! A Vault to play with: demo, tests and bench run on it. Not for secrets.
//!
//! See [`FakeVault`] first. It is set up over HTTP like a real one (mounts, policies, roles), with the
//! root token [`ROOT`]; one contract test suite runs over it and over OpenBao, and where they differ
//! this one is wrong. On top it can be stopped and resumed, it counts requests, and it has [`faults`].
//!
//! ```text
//! serve (sockets, faults) -> exchange -> vault (who may, which engine) -> kv database pki transit auth sys
//! ```
//!
//! What it refuses: engines, options and policy syntax (HCL) that nobody here needs, with a clear text.

mod auth;
pub mod cluster;
mod database;
mod exchange;
pub mod faults;
mod jwt;
pub mod kind;
mod kv;
mod pki;
mod policy;
mod serve;
mod sys;
mod tokens;
mod transit;
mod vault;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fake_vault::cluster::Cluster;
use crate::fake_vault::faults::{Fault, Faults};
use crate::fake_vault::kind::{Counts, Kind};
use crate::fake_vault::vault::Vault;

/// The token that may do everything.
pub const ROOT: &str = "root";

/// A running fake Vault; it ends when this is dropped.
pub struct FakeVault {
    address: SocketAddr,
    shared: Arc<Shared>,
    running: Mutex<CancellationToken>,
}

/// What connections share.
struct Shared {
    vault: Mutex<Vault>,
    faults: Mutex<Faults>,
    counts: watch::Sender<Counts>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeVault {
    /// Starts one on a free port of the loopback interface, in the current runtime.
    ///
    /// # Errors
    /// The kernel gives no port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            vault: Mutex::new(Vault::new()),
            faults: Mutex::new(Faults::default()),
            counts: watch::Sender::default(),
        });
        let running = Mutex::new(serve::spawn(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, running })
    }

    /// Its address, as a connection names it.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes the port and every connection. What it knows stays.
    pub fn stop(&self) {
        locked(&self.running).cancel();
    }

    /// Opens the same port again after [`Self::stop`].
    ///
    /// # Errors
    /// Somebody else has taken the port.
    pub async fn resume(&self) -> std::io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        *locked(&self.running) = serve::spawn(listener, Arc::clone(&self.shared));
        Ok(())
    }

    /// Believes the tokens of this cluster where an auth method is configured for it.
    pub fn trust(&self, cluster: &Cluster) {
        locked(&self.shared.vault).trust(cluster);
    }

    /// From now on requests go wrong in this way, until [`Self::mend`].
    pub fn fault(&self, fault: Fault) {
        locked(&self.shared.faults).add(fault);
    }

    /// No request goes wrong any more.
    pub fn mend(&self) {
        locked(&self.shared.faults).clear();
    }

    /// Counts from zero again.
    pub fn count_anew(&self) {
        self.shared.counts.send_replace(Counts::default());
    }

    /// Takes one request out of the count: an operator's own.
    pub fn uncount(&self, kind: Kind) {
        self.shared.counts.send_modify(|counts| counts.uncount(kind));
    }

    /// How many requests of a kind have come in.
    pub fn count(&self, kind: Kind) -> u64 {
        self.shared.counts.borrow().of(kind)
    }

    /// Waits until at least `count` requests of a kind have been answered.
    pub async fn answered(&self, kind: Kind, count: u64) {
        let mut counts = self.shared.counts.subscribe();
        // The sender lives as long as we do: this ends only when the count is reached.
        drop(counts.wait_for(|counts| counts.answered(kind) >= count).await);
    }

    /// Waits until at least `count` requests of a kind have come in, answered or not.
    pub async fn received(&self, kind: Kind, count: u64) {
        let mut counts = self.shared.counts.subscribe();
        drop(counts.wait_for(|counts| counts.of(kind) >= count).await);
    }

    /// Ids of the leases that are alive, sorted.
    pub fn leases(&self) -> Vec<String> {
        locked(&self.shared.vault).live_leases()
    }

    /// How many tokens made by a login are alive.
    pub fn sessions(&self) -> usize {
        locked(&self.shared.vault).live_sessions()
    }

    /// Ends every session, as an operator might: their leases die with them.
    pub fn revoke_sessions(&self) {
        locked(&self.shared.vault).revoke_sessions();
    }
}

impl Drop for FakeVault {
    fn drop(&mut self) {
        self.stop();
    }
}
