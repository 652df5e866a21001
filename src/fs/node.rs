//! [`NodeId`]: numbers of inodes and handles, computed from what they stand for, never allocated.
//!
//! So FORGET can be ignored, and another process that knows the same volume answers the same numbers.
//!
//! ```text
//! 63..60 kind | 59..28 generation or version | 27..16 file, folder or link | 15..0 field
//! ```

/// The number of an inode, or of an open handle: then it names the version that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// What a [`NodeId`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// The volume's root.
    Root,
    /// `/<first part>`, a link to `..data/<first part>`.
    TopLink {
        /// Index of the first part among those of the volume, sorted.
        at: usize,
    },
    /// `/..data`, as of one generation; a link to it.
    DataLink {
        /// Where it points.
        generation: u32,
    },
    /// A folder of one generation; folder 0 is `/..<generation>` itself.
    Folder {
        /// The generation.
        generation: u32,
        /// Index among the volume's folders.
        at: usize,
    },
    /// The folder of a `field: *` file in one generation.
    Fields {
        /// The generation.
        generation: u32,
        /// The file's index in the spec.
        file: usize,
    },
    /// One immutable version of a file.
    File(Version),
    /// `/.keyhole`.
    Keyhole,
    /// `/.keyhole/status.json`; as a handle, one snapshot of it.
    Status {
        /// Which snapshot; 0 for the inode.
        snapshot: u32,
    },
}

/// One immutable version of a file, or of one field of a `field: *` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// The file's index in the spec.
    pub file: usize,
    /// The generation that first showed it.
    pub version: u32,
    /// The field's index in the order in which the file's fields became known.
    pub field: usize,
}

const FILE_BITS: u64 = 12;
const FIELD_BITS: u64 = 16;

impl NodeId {
    /// The root's number is FUSE's own.
    pub const ROOT: Self = Self(1);
}

impl From<Node> for NodeId {
    fn from(node: Node) -> Self {
        let (kind, version, file, field) = match node {
            Node::Root => return Self::ROOT,
            Node::TopLink { at } => (1, 0, at, 0),
            Node::DataLink { generation } => (2, generation, 0, 0),
            Node::Folder { generation, at } => (3, generation, at, 0),
            Node::Fields { generation, file } => (4, generation, file, 0),
            Node::File(Version { file, version, field }) => (5, version, file, field),
            Node::Keyhole => (6, 0, 0, 0),
            Node::Status { snapshot } => (7, snapshot, 0, 0),
        };
        let mask = |value: usize, bits: u64| value as u64 & ((1 << bits) - 1);
        let version = u64::from(version) << (FILE_BITS + FIELD_BITS);
        Self(kind << 60 | version | mask(file, FILE_BITS) << FIELD_BITS | mask(field, FIELD_BITS))
    }
}

impl NodeId {
    /// What the number stands for; `None` for a number that we never gave out.
    #[expect(clippy::cast_possible_truncation, reason = "each part is masked to its width first")]
    pub fn node(self) -> Option<Node> {
        if self == Self::ROOT {
            return Some(Node::Root);
        }
        let generation = (self.0 >> (FILE_BITS + FIELD_BITS)) as u32;
        let file = (self.0 >> FIELD_BITS & ((1 << FILE_BITS) - 1)) as usize;
        let field = (self.0 & ((1 << FIELD_BITS) - 1)) as usize;
        Some(match self.0 >> 60 {
            1 => Node::TopLink { at: file },
            2 => Node::DataLink { generation },
            3 => Node::Folder { generation, at: file },
            4 => Node::Fields { generation, file },
            5 => Node::File(Version { file, version: generation, field }),
            6 => Node::Keyhole,
            7 => Node::Status { snapshot: generation },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_names_its_node_and_no_other(
            generation in any::<u32>(), file in 0_usize..4096, field in 0_usize..65_536,
        ) {
            let nodes = [
                Node::Root,
                Node::TopLink { at: file },
                Node::DataLink { generation },
                Node::Folder { generation, at: file },
                Node::Fields { generation, file },
                Node::File(Version { file, version: generation, field }),
                Node::Keyhole,
                Node::Status { snapshot: generation },
            ];
            for node in nodes {
                prop_assert_eq!(NodeId::from(node).node(), Some(node));
            }
        }

        #[test]
        fn any_number_gives_an_answer(number in any::<u64>()) {
            NodeId(number).node();
        }
    }
}
