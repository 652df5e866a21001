//! [`Redacted`]: the one way this program carries a secret value.
//!
//! See [`Redacted::expose`] first: every place that looks inside can be found by its name.
//! It refuses to be printed (no `Debug`, `Display` or `Serialize`) and is wiped when dropped.

pub mod allocator;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A value that cannot be printed and is wiped from memory when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redacted<T: Zeroize>(T);

/// Bytes of a secret: a file's content, a body that Vault sent.
pub type SecretBytes = Redacted<Vec<u8>>;
/// A secret that is text: a token of Vault's or of Kubernetes'.
pub type SecretText = Redacted<String>;

impl<T: Zeroize> Redacted<T> {
    /// Takes the value in; the caller keeps no copy.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Looks inside. What is seen must not outlive its use and must not be formatted.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Redacted<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> ZeroizeOnDrop for Redacted<T> {}
