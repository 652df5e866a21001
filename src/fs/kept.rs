//! How [`Versions`] are written down, so that another process can go on with them.
//!
//! ```text
//! content/FILE/VERSION   bytes of one version; its cell counts the open handles
//! file/FILE              which version is current, where it comes from, the names of its fields
//! old/FILE/VERSION       until when a replaced version is served
//! past/GENERATION        which versions a generation showed
//! generation             the current one
//! ```
//!
//! One batch for everything that changes together: a generation is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::fs::files::Provenance;
use crate::fs::versions::{Content, Old, Past, Versions};
use crate::kept::journal::{Batch, Entry};
use crate::kept::value::{decode, encode};
use crate::redact::SecretBytes;

/// What has changed and is not written down yet.
#[derive(Default)]
pub(super) struct Dirt {
    /// Files whose present changed.
    pub(super) files: BTreeSet<usize>,
    /// Versions that were filled.
    pub(super) contents: BTreeSet<(usize, u32)>,
    /// Versions that were replaced, or are past their grace.
    pub(super) old: BTreeSet<(usize, u32)>,
    /// Versions whose bytes are gone.
    pub(super) gone: BTreeSet<(usize, u32)>,
    /// Generations that were left, or forgotten.
    pub(super) past: BTreeSet<u32>,
    /// There is a new generation.
    pub(super) generation: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    filled: bool,
    ended: bool,
    #[serde(default)]
    provenance: Option<Provenance>,
    #[serde(default)]
    last_size: u64,
    #[serde(default)]
    names: Vec<String>,
}

/// Fields of a content: index and length, in the order of the bytes.
#[derive(Serialize, Deserialize)]
struct Filled {
    mtime: SystemTime,
    folder: bool,
    fields: Vec<(usize, usize)>,
}

#[derive(Serialize, Deserialize)]
struct Generation {
    generation: u32,
    switched: SystemTime,
}

/// The key of a version's bytes; its cell counts the handles.
pub(super) fn content_key((file, version): (usize, u32)) -> Vec<u8> {
    format!("content/{file}/{version}").into_bytes()
}

fn old_key((file, version): (usize, u32)) -> String {
    format!("old/{file}/{version}")
}

impl Versions {
    /// What has changed since the last call.
    pub(super) fn changes(&mut self) -> Batch {
        let dirt = std::mem::take(&mut self.dirt);
        let mut batch = Batch::new();
        for key in dirt.contents.difference(&dirt.gone) {
            if let Some(content) = self.content(*key) {
                batch.put_cell(content_key(*key), filled(content));
            }
        }
        for file in dirt.files {
            let Some(present) = self.files.get(file) else { continue };
            let meta = File {
                version: present.version,
                filled: present.content.is_some(),
                ended: present.ended,
                provenance: present.provenance.clone(),
                last_size: present.last_size,
                names: present.names.clone(),
            };
            batch.put(format!("file/{file}"), encode(&meta, &[]));
        }
        for key in dirt.old {
            match self.old.get(&key) {
                Some(old) => batch.put(old_key(key), encode(&old.until, &[])),
                None => batch.delete(old_key(key)),
            }
        }
        for generation in dirt.past {
            let key = format!("past/{generation}");
            match self.past.get(&generation) {
                Some(past) => batch.put(key, encode(past, &[])),
                None => batch.delete(key),
            }
        }
        for key in dirt.gone {
            batch.delete(content_key(key));
        }
        if dirt.generation {
            let meta = Generation { generation: self.generation, switched: self.switched };
            batch.put("generation", encode(&meta, &[]));
        }
        batch
    }

    fn content(&self, (file, version): (usize, u32)) -> Option<&Arc<Content>> {
        let present = self.files.get(file)?;
        let current = present.content.as_ref().filter(|_| present.version == version);
        current
            .or_else(|| self.old.get(&(file, version)).map(|old| &old.content))
            .or_else(|| self.held.get(&(file, version)))
    }

    /// Goes on with what another process wrote. `None` when it does not fit together.
    pub(super) fn restore(mut self, entries: &BTreeMap<Vec<u8>, Entry>) -> Option<Self> {
        let mut contents: BTreeMap<(usize, u32), Arc<Content>> = BTreeMap::new();
        let (mut old, mut files) = (Vec::new(), Vec::new());
        for (key, entry) in entries {
            let mut parts = str::from_utf8(key).ok()?.split('/');
            let (kind, first, second) = (parts.next()?, parts.next(), parts.next());
            let first = || first?.parse::<u32>().ok();
            let pair = || Some((usize::try_from(first()?).ok()?, second?.parse::<u32>().ok()?));
            match kind {
                "content" => {
                    contents.insert(pair()?, Arc::new(content(&entry.value)?));
                    if let Some(handles) = entry.cell.filter(|handles| *handles > 0) {
                        self.handles.insert(pair()?, handles);
                    }
                }
                "file" => {
                    files.push((usize::try_from(first()?).ok()?, decode::<File>(&entry.value)?.0));
                }
                "old" => old.push((pair()?, decode::<Moment>(&entry.value)?.0)),
                "past" => {
                    self.past.insert(first()?, decode::<Past>(&entry.value)?.0);
                }
                "generation" => {
                    let (meta, _) = decode::<Generation>(&entry.value)?;
                    (self.generation, self.switched) = (meta.generation, meta.switched);
                }
                // Of a later version.
                _ => {}
            }
        }
        for (at, file) in files {
            let present = self.files.get_mut(at)?;
            if file.filled {
                present.content = Some(contents.remove(&(at, file.version))?);
            }
            (present.version, present.ended) = (file.version, file.ended);
            (present.provenance, present.last_size) = (file.provenance, file.last_size);
            present.names = file.names;
        }
        for (key, until) in old {
            let content = contents.remove(&key)?;
            self.old.insert(key, Old { content, until });
        }
        // What is left was past its grace: kept as long as somebody has it open.
        for (key, content) in contents {
            if self.handles.contains_key(&key) {
                self.held.insert(key, content);
            } else {
                self.dirt.gone.insert(key);
            }
        }
        Some(self)
    }
}

fn filled(content: &Content) -> SecretBytes {
    let fields = content.bytes.iter().map(|(at, bytes)| (*at, bytes.expose().len())).collect();
    let meta = Filled { mtime: content.mtime, folder: content.folder, fields };
    let raw: Vec<u8> =
        content.bytes.values().flat_map(|bytes| bytes.expose().iter().copied()).collect();
    let raw = SecretBytes::new(raw);
    encode(&meta, raw.expose())
}

fn content(value: &SecretBytes) -> Option<Content> {
    let (meta, mut raw) = decode::<Filled>(value)?;
    let mut bytes = BTreeMap::new();
    for (at, length) in meta.fields {
        let (field, rest) = raw.split_at_checked(length)?;
        bytes.insert(at, Arc::new(SecretBytes::new(field.to_vec())));
        raw = rest;
    }
    Some(Content { bytes, mtime: meta.mtime, folder: meta.folder })
}
