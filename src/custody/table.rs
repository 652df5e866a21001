//! [`Table`]: everything that is put into the keeper's hands, so that it can be put there again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use crate::keeper::KeeperError;
use crate::keeper::client::Connection;

struct Put {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// Names, and what is under them.
#[derive(Default)]
pub(super) struct Table {
    entries: BTreeMap<String, Put>,
    /// Where it goes, under which epoch; `None` without a keeper.
    keeper: Option<(Connection, u64)>,
}

fn send(keeper: &mut (Connection, u64), name: &str, put: &Put) -> Result<(), KeeperError> {
    let descriptors: Vec<BorrowedFd<'_>> =
        put.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
    keeper.0.put(keeper.1, name, &put.bytes, &descriptors)
}

impl Table {
    /// Puts something under a name, in the place of what was there. False when the keeper does not have it.
    pub(super) fn put(&mut self, name: &str, bytes: Vec<u8>, descriptors: Vec<OwnedFd>) -> bool {
        self.entries.insert(name.to_owned(), Put { bytes, descriptors });
        self.send(name)
    }

    /// Puts another descriptor in the place of one; nothing when nothing is under the name yet.
    pub(super) fn change(&mut self, name: &str, at: usize, descriptor: OwnedFd) -> bool {
        let put = self.entries.get_mut(name);
        let Some(place) = put.and_then(|put| put.descriptors.get_mut(at)) else {
            return false;
        };
        *place = descriptor;
        self.send(name)
    }

    fn send(&mut self, name: &str) -> bool {
        let (Some(keeper), Some(put)) = (self.keeper.as_mut(), self.entries.get(name)) else {
            return false;
        };
        match send(keeper, name, put) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(name, %error, "the keeper did not take it; everything is put there again");
                self.keeper = None;
                false
            }
        }
    }

    /// Nothing is under the name any more.
    pub(super) fn remove(&mut self, name: &str) {
        if self.entries.remove(name).is_none() {
            return;
        }
        if let Some((connection, epoch)) = self.keeper.as_mut()
            && let Err(error) = connection.delete(*epoch, name)
        {
            tracing::warn!(name, %error, "the keeper did not forget it; it is told again");
            self.keeper = None;
        }
    }

    /// What another driver had put there is ours to keep now.
    pub(super) fn inherit(&mut self, name: &str, bytes: Vec<u8>, descriptors: Vec<OwnedFd>) {
        self.entries.entry(name.to_owned()).or_insert(Put { bytes, descriptors });
    }

    /// Whether something is under a name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether what is put goes to the keeper.
    pub(super) fn is_connected(&self) -> bool {
        self.keeper.is_some()
    }

    pub(super) fn disconnect(&mut self) {
        self.keeper = None;
    }

    /// Takes a connection to a keeper that has what is `inherited` already.
    pub(super) fn adopt(
        &mut self,
        connection: Connection,
        epoch: u64,
        inherited: &BTreeSet<String>,
    ) -> Result<(), KeeperError> {
        let mut keeper = (connection, epoch);
        for (name, put) in self.entries.iter().filter(|(name, _)| !inherited.contains(*name)) {
            send(&mut keeper, name, put)?;
        }
        self.keeper = Some(keeper);
        Ok(())
    }

    /// Puts everything there again over a new connection, and takes away what we do not have.
    pub(super) fn connect(
        &mut self,
        connection: Connection,
        epoch: u64,
        theirs: &[String],
    ) -> Result<(), KeeperError> {
        let mut keeper = (connection, epoch);
        for (name, put) in &self.entries {
            send(&mut keeper, name, put)?;
        }
        for name in theirs.iter().filter(|name| !self.entries.contains_key(*name)) {
            keeper.0.delete(epoch, name)?;
        }
        self.keeper = Some(keeper);
        Ok(())
    }
}
