//! [`Tree`]: the names of a volume, which never change while it lives. Contents do; see `versions`.

use crate::spec::{Field, FileSpec};

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    /// A folder, by index.
    Folder(usize),
    /// A file, by index in the spec.
    File(usize),
    /// The folder of a `field: *` file, by index in the spec.
    Fields(usize),
}

/// The folders of a volume; folder 0 is a generation's root.
pub(super) struct Tree {
    folders: Vec<Vec<(String, Child)>>,
}

impl Tree {
    pub(super) fn new(files: &[FileSpec]) -> Self {
        let mut tree = Self { folders: vec![Vec::new()] };
        for (at, file) in files.iter().enumerate() {
            let leaf = match file.field {
                Field::Each => Child::Fields(at),
                Field::All | Field::One(_) => Child::File(at),
            };
            let (folders, name) = match file.name.rsplit_once('/') {
                Some((folders, name)) => (folders.split('/').collect(), name),
                None => (Vec::new(), file.name.as_str()),
            };
            let inside = folders.into_iter().fold(0, |parent, name| tree.folder(parent, name));
            tree.add(inside, name, leaf);
        }
        for folder in &mut tree.folders {
            folder.sort_by(|one, other| one.0.cmp(&other.0));
        }
        tree
    }

    fn folder(&mut self, parent: usize, name: &str) -> usize {
        let had = self.folders.get(parent).into_iter().flatten().find(|(had, _)| had == name);
        if let Some((_, Child::Folder(at))) = had {
            return *at;
        }
        let at = self.folders.len();
        self.folders.push(Vec::new());
        self.add(parent, name, Child::Folder(at));
        at
    }

    fn add(&mut self, parent: usize, name: &str, child: Child) {
        if let Some(folder) = self.folders.get_mut(parent) {
            folder.push((name.to_owned(), child));
        }
    }

    /// The names in a folder, sorted; `None` for a folder that there is not.
    pub(super) fn list(&self, folder: usize) -> Option<&[(String, Child)]> {
        self.folders.get(folder).map(Vec::as_slice)
    }

    /// What `name` is in a folder.
    pub(super) fn child(&self, folder: usize, name: &str) -> Option<Child> {
        let names = self.list(folder)?;
        let at = names.binary_search_by(|(had, _)| had.as_str().cmp(name)).ok()?;
        names.get(at).map(|(_, child)| *child)
    }

    /// The names that the volume's root shows as links.
    pub(super) fn tops(&self) -> &[(String, Child)] {
        self.list(0).unwrap_or_default()
    }
}
