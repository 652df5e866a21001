//! Port: where a volume is put so that its mount outlives this process. Implemented by `custody`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use async_trait::async_trait;

use crate::fs::serve::Handed;
use crate::kept::region::Region;

/// Everything that another process needs to go on with a volume.
pub struct Deposit {
    /// The mount.
    pub handed: Handed,
    /// The manifest's memory.
    pub manifest: OwnedFd,
    /// The journal's memory.
    pub journal: OwnedFd,
}

/// A volume that another process has put there.
pub struct FoundVolume {
    /// The name that it is kept under.
    pub name: String,
    /// The mount.
    pub handed: Handed,
    /// The manifest's memory.
    pub manifest: Box<dyn Region>,
    /// The journal's memory.
    pub journal: Box<dyn Region>,
}

/// Port: the keeper, as volumes see it.
#[async_trait]
pub trait Keeping: Send + Sync + 'static {
    /// Waits until the keeper is there, at most `limit` since it was last; false when it is not.
    async fn is_there_within(&self, limit: Duration) -> bool;

    /// Puts a volume under `name`, in the place of what was there. False when nobody keeps it.
    async fn deposit(&self, name: &str, volume: Deposit) -> bool;

    /// Nothing is kept under `name` any more.
    async fn withdraw(&self, name: &str);

    /// The number of this driver among those of this keeper.
    fn epoch(&self) -> u64;
}
