//! The options of one file become a [`FileSpec`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::secret::request::Verb;
use crate::spec::mistake::{Mistake, mistake};
use crate::spec::values::{self, Wrong};
use crate::spec::{Encoding, Field, FileSpec, Format};

/// The pod's fsGroup.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub(super) gid: Option<u32>,
}

/// Reads the options of the file `name`; `None` when it has no secret. Mistakes are added.
pub(super) fn parse(
    name: &str,
    options: &BTreeMap<&str, &str>,
    group: Group,
    refresh: Option<Duration>,
    mistakes: &mut Vec<Mistake>,
) -> Option<FileSpec> {
    let mut reader = Reader { name, options, mistakes };
    let field = reader.read("field", values::field).unwrap_or(Field::All);
    let format = reader.read("format", values::format);
    let write = reader.read("method", values::is_write).unwrap_or(false);
    let args = reader.read("args", values::args);
    let encoding = reader.read("encoding", values::encoding);
    let default_mode = if group.gid.is_some() { 0o440 } else { 0o444 };
    let mode = reader.read("mode", values::mode).unwrap_or(default_mode);
    let uid = reader.read("uid", values::id).unwrap_or(0);
    let gid = reader.read("gid", values::id).or(group.gid).unwrap_or(0);
    let refresh = reader.read("refresh", values::refresh).unwrap_or(refresh);
    let secret = reader.read("secret", values::secret);

    if !options.contains_key("secret") {
        reader.wrong("secret", "missing", "write the path in Vault that the file shows");
    }
    if format.is_some() && field != Field::All {
        reader.wrong("format", "has no meaning with `field`", "leave one of them out");
    }
    if encoding == Some(Encoding::Base64) && field == Field::All {
        reader.wrong("encoding", "decodes a field, and the file shows all", "add `field`");
    }
    if args.is_some() && !write {
        reader.wrong("args", "needs a write", "add `method: PUT`");
    }
    let mut secret = secret?;
    secret.verb = if write { Verb::Write } else { Verb::Read };
    secret.args = args.unwrap_or_default();
    Some(FileSpec {
        name: name.to_owned(),
        secret,
        field,
        format: format.unwrap_or(Format::Json),
        encoding: encoding.unwrap_or(Encoding::Plain),
        mode,
        uid,
        gid,
        refresh,
    })
}

struct Reader<'a> {
    name: &'a str,
    options: &'a BTreeMap<&'a str, &'a str>,
    mistakes: &'a mut Vec<Mistake>,
}

impl Reader<'_> {
    fn read<T>(&mut self, option: &str, read: fn(&str) -> Result<T, Wrong>) -> Option<T> {
        match read(self.options.get(option)?) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.mistakes.push(wrong.at(&format!("{}/{option}", self.name)));
                None
            }
        }
    }

    fn wrong(&mut self, option: &str, what: &str, instead: &str) {
        self.mistakes.push(mistake(&format!("{}/{option}", self.name), what, instead));
    }
}
