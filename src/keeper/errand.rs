//! [`Errand`]: what the rotator shall do with the one mount that it is handed. Pure; opaque to the keeper's loop.
//!
//! A format of one binary: whoever writes an errand is upgraded by itself, so an errand that a rotator does not
//! know is answered with ENOSYS, and a new kind gets a new number.

use std::ffi::{CStr, CString};

/// Work inside a mount, done by a process that may be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Let `..data` lead to `..<generation>`, by a rename that watchers see, then [`Errand::Prime`].
    Rotate {
        /// Where it shall lead.
        generation: u32,
    },
    /// Ask for the root's attributes, so that the kernel knows them.
    Prime,
    /// Look each path up, so that the kernel knows the names, then [`Errand::Prime`].
    Names(Vec<CString>),
}

/// Why bytes are no errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongErrand {
    /// A kind of a later version.
    #[error("an unknown errand")]
    Unknown,
    /// No errand at all.
    #[error("no errand")]
    Malformed,
}

const ROTATE: u8 = 1;
const PRIME: u8 = 2;
const NAMES: u8 = 3;

impl Errand {
    /// As bytes: the kind, then the generation or the paths, each ended by a zero.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Rotate { generation } => {
                std::iter::once(ROTATE).chain(generation.to_le_bytes()).collect()
            }
            Self::Prime => vec![PRIME],
            Self::Names(paths) => {
                let paths = paths.iter().flat_map(|path| path.as_bytes_with_nul());
                std::iter::once(NAMES).chain(paths.copied()).collect()
            }
        }
    }

    /// Reads what [`Errand::encode`] wrote; total.
    ///
    /// # Errors
    /// The kind is unknown, or the bytes are none of ours.
    pub fn decode(bytes: &[u8]) -> Result<Self, WrongErrand> {
        let (kind, mut rest) = bytes.split_first().ok_or(WrongErrand::Malformed)?;
        match *kind {
            ROTATE => {
                let generation = rest.first_chunk().ok_or(WrongErrand::Malformed)?;
                Ok(Self::Rotate { generation: u32::from_le_bytes(*generation) })
            }
            PRIME => Ok(Self::Prime),
            NAMES => {
                let mut paths = Vec::new();
                while !rest.is_empty() {
                    let path =
                        CStr::from_bytes_until_nul(rest).map_err(|_| WrongErrand::Malformed)?;
                    rest = rest.get(path.count_bytes() + 1..).unwrap_or_default();
                    paths.push(path.to_owned());
                }
                Ok(Self::Names(paths))
            }
            _ => Err(WrongErrand::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errands_are_written_as_they_are_documented() {
        assert_eq!(Errand::Rotate { generation: 7 }.encode(), [1, 7, 0, 0, 0]);
        assert_eq!(Errand::Prime.encode(), [2]);
        assert_eq!(Errand::Names(vec![c"..7/a".to_owned()]).encode(), b"\x03..7/a\0");
        assert_eq!(Errand::decode(&[9]), Err(WrongErrand::Unknown));
        assert_eq!(Errand::decode(&[1, 7, 0]), Err(WrongErrand::Malformed));
        assert_eq!(Errand::decode(b"\x03no end"), Err(WrongErrand::Malformed));
    }

    proptest! {
        #[test]
        fn names_are_read_as_they_were_written(names in prop::collection::vec("[^\0]{0,40}", 0..20)) {
            let paths = names.iter().map(|name| CString::new(name.as_str()).unwrap()).collect();
            let errand = Errand::Names(paths);
            prop_assert_eq!(Errand::decode(&errand.encode()), Ok(errand));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Errand::decode(&bytes));
        }
    }
}
