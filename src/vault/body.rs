//! Bodies that are wiped: what we send, and what Vault answers, read up to a limit.

use bytes::Bytes;
use zeroize::{Zeroize as _, Zeroizing};

use crate::redact::SecretBytes;
use crate::secret::store::StoreError;

/// The most bytes of an answer.
pub(super) const LIMIT: usize = 1024 * 1024;

/// A body to send; wiped once it is sent.
pub(super) fn wiped(body: Vec<u8>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(body))
}

/// An answer's body as it comes in; growing leaves no copy behind.
pub(super) struct Incoming(Zeroizing<Vec<u8>>);

impl Incoming {
    /// `length` is what Content-Length promises.
    ///
    /// # Errors
    /// More than the limit is promised.
    pub(super) fn new(length: Option<u64>) -> Result<Self, StoreError> {
        let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(4096);
        if length > LIMIT {
            return Err(StoreError::TooLarge { limit: LIMIT });
        }
        Ok(Self(Zeroizing::new(Vec::with_capacity(length))))
    }

    /// Adds a part.
    ///
    /// # Errors
    /// It goes over the limit.
    pub(super) fn add(&mut self, part: &[u8]) -> Result<(), StoreError> {
        let wanted = self.0.len() + part.len();
        if wanted > LIMIT {
            return Err(StoreError::TooLarge { limit: LIMIT });
        }
        if wanted > self.0.capacity() {
            let mut larger = Vec::with_capacity((wanted * 2).min(LIMIT));
            larger.extend_from_slice(&self.0);
            std::mem::swap(&mut *self.0, &mut larger);
            larger.zeroize();
        }
        self.0.extend_from_slice(part);
        Ok(())
    }

    /// The whole body.
    pub(super) fn whole(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut *self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_grow_to_the_limit_and_no_further() {
        let mut body = Incoming::new(None).ok().unwrap();
        for _ in 0..LIMIT / 1024 {
            assert!(body.add(&[7; 1024]).is_ok());
        }
        assert_eq!(body.add(&[7]), Err(StoreError::TooLarge { limit: LIMIT }));
        assert_eq!(body.whole().expose().len(), LIMIT);
        let promised = Incoming::new(Some(LIMIT as u64 + 1)).err();
        assert_eq!(promised, Some(StoreError::TooLarge { limit: LIMIT }));
    }
}
