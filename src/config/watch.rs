//! [`ConfigFile`]: the file on disk and the certificates that it names; tells when any has changed.
//!
//! A mounted ConfigMap changes by swinging a link, which keeps size and sometimes time: what is compared
//! is device, inode, size and both times of the file behind all links.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::{Config, file};
use crate::spec::mistake::{Mistake, mistake};

/// What a file looks like from outside; `None` when it cannot be looked at.
type Look = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// The configuration file, as it was read last.
pub struct ConfigFile {
    path: PathBuf,
    looks: BTreeMap<PathBuf, Look>,
}

impl ConfigFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Every mistake in it, or that it cannot be read.
    pub fn load(path: &Path) -> Result<(Config, Self), Vec<Mistake>> {
        // Looked at before it is read: a change in between is seen by the next poll.
        let mut looks = BTreeMap::from([(path.to_owned(), look(path))]);
        let config = read(path)?;
        looks.extend(named(&config).map(|named| (named.clone(), look(named))));
        Ok((config, Self { path: path.to_owned(), looks }))
    }

    /// Reads the file again if it, or a certificate that it names, has changed since the last time.
    pub fn poll(&mut self) -> Option<Result<Config, Vec<Mistake>>> {
        if self.looks.iter().all(|(path, had)| look(path) == *had) {
            return None;
        }
        let again = Self::load(&self.path);
        Some(match again {
            Ok((config, file)) => {
                *self = file;
                Ok(config)
            }
            Err(mistakes) => {
                for (path, had) in &mut self.looks {
                    *had = look(path);
                }
                Err(mistakes)
            }
        })
    }
}

fn read(path: &Path) -> Result<Config, Vec<Mistake>> {
    let source = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![mistake(&source, &format!("cannot be read: {error}"), "name another with --config")]
    })?;
    file::parse(&text, &source)
}

fn named(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.vaults.values().flat_map(|connection| {
        let files =
            [&connection.ca_file, &connection.client_cert_file, &connection.client_key_file];
        files.into_iter().flatten()
    })
}

fn look(path: &Path) -> Look {
    let meta = std::fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_file_and_of_its_certificates_are_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ca) = (folder.path().join("c.yaml"), folder.path().join("ca.pem"));
        std::fs::write(&ca, "one").unwrap();
        let text = format!("vaults: {{m: {{address: https://v, caFile: {}}}}}", ca.display());
        std::fs::write(&path, &text).unwrap();
        let (_, mut file) = ConfigFile::load(&path).ok().unwrap();
        assert!(file.poll().is_none());

        std::fs::write(&ca, "longer").unwrap();
        assert!(file.poll().unwrap().is_ok());
        assert!(file.poll().is_none());

        std::fs::write(&path, "vaults: {}").unwrap();
        assert!(file.poll().unwrap().is_err());
        assert!(file.poll().is_none(), "a wrong file is reported once");

        std::fs::write(&path, &text).unwrap();
        assert!(file.poll().unwrap().is_ok());
        std::fs::remove_file(&path).unwrap();
        assert!(file.poll().unwrap().is_err());
        assert!(file.poll().is_none());
    }

    #[test]
    fn a_missing_file_says_how_to_name_another() {
        let mistakes = ConfigFile::load(Path::new("/nonexistent/c.yaml")).err().unwrap();
        assert!(mistakes[0].to_string().contains("--config"), "{}", mistakes[0]);
    }
}
