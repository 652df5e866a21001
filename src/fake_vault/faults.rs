//! [`Fault`]: how requests go wrong on demand.

use std::time::Duration;

use crate::fake_vault::kind::Kind;

/// One way in which requests of some kinds go wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    how: How,
    kind: Option<Kind>,
    part: String,
    left: Option<u32>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The answer takes this much longer; then it is as usual.
    Latency(Duration),
    /// No answer ever comes; the connection stays open.
    Hang,
    /// The connection is reset (RST) instead of an answer.
    Reset,
    /// This status and this error text instead of an answer.
    Status {
        /// 403, 412, 429, 500, …
        code: u16,
        /// Vault's `errors`.
        said: String,
        /// `Retry-After` in seconds.
        retry_after: Option<u64>,
    },
    /// 503 with Vault's own text; nothing is done.
    Sealed,
    /// The usual answer, cut in the middle: the connection closes before what was promised has come.
    Truncated,
    /// A success of this many bytes.
    Oversized(usize),
    /// A success with a body that is not Vault's: a proxy's page, say.
    Garbage(Vec<u8>),
}

impl Fault {
    /// All requests, until mended.
    pub fn new(how: How) -> Self {
        Self { how, kind: None, part: String::new(), left: None }
    }

    /// A status with a text, until mended.
    pub fn status(code: u16, said: &str) -> Self {
        Self::new(How::Status { code, said: said.to_owned(), retry_after: None })
    }

    /// Only requests of this kind.
    #[must_use]
    pub fn at(self, kind: Kind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// Only requests whose path holds `part`.
    #[must_use]
    pub fn on(self, part: &str) -> Self {
        Self { part: part.to_owned(), ..self }
    }

    /// Only the next `times` requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { left: Some(times), ..self }
    }
}

/// The faults that wait for requests.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong with a request of this kind and path: the oldest fault that fits.
    pub(super) fn take(&mut self, kind: Kind, path: &str) -> Option<How> {
        let fits = |fault: &Fault| {
            fault.kind.is_none_or(|only| only == kind) && path.contains(&fault.part)
        };
        let at = self.0.iter().position(|fault| fits(fault) && fault.left != Some(0))?;
        let fault = self.0.get_mut(at)?;
        fault.left = fault.left.map(|left| left - 1);
        Some(fault.how.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_for_their_kind_and_their_number_of_requests() {
        let mut faults = Faults::default();
        faults.add(Fault::new(How::Reset).at(Kind::Login).times(2));
        faults.add(Fault::new(How::Hang).on("/"));
        faults.add(Fault::new(How::Sealed).on("kv/app"));
        assert_eq!(faults.take(Kind::Secret, "kv/x"), Some(How::Hang));
        assert_eq!(faults.take(Kind::Login, "auth/x/login"), Some(How::Reset));
        assert_eq!(faults.take(Kind::Login, "auth/x/login"), Some(How::Reset));
        assert_eq!(faults.take(Kind::Login, "auth/x/login"), Some(How::Hang));
        faults.clear();
        assert_eq!(faults.take(Kind::Login, "auth/x/login"), None);
    }
}
