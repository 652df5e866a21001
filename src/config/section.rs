//! [`Section`]: one mapping of the file, read key by key; what is wrong is noted with its line.
//!
//! Every key is asked for once; [`Section::done`] then tells which keys nobody asked for.

use std::cell::RefCell;

use saphyr::{MarkedYaml, Scalar, YamlData};

use crate::spec::mistake::{Mistake, mistake, nearest};
use crate::spec::values::Wrong;

/// Where mistakes are noted, and the file's name.
pub(super) struct Notes<'a> {
    pub(super) source: &'a str,
    pub(super) mistakes: RefCell<Vec<Mistake>>,
}

impl Notes<'_> {
    pub(super) fn wrong(&self, line: usize, what: &str, instead: &str) {
        let place = format!("{}:{line}", self.source);
        self.mistakes.borrow_mut().push(mistake(&place, what, instead));
    }
}

/// One mapping.
pub(super) struct Section<'a, 'y> {
    name: String,
    line: usize,
    fields: Vec<(String, &'a MarkedYaml<'y>, usize)>,
    asked: RefCell<Vec<&'static str>>,
    notes: &'a Notes<'a>,
}

/// The text of a scalar, as a person wrote it.
fn scalar(node: &MarkedYaml<'_>) -> Option<String> {
    let YamlData::Value(value) = &node.data else { return None };
    match value {
        Scalar::String(text) => Some(text.to_string()),
        Scalar::Integer(number) => Some(number.to_string()),
        Scalar::Boolean(value) => Some(value.to_string()),
        Scalar::FloatingPoint(number) => Some(number.to_string()),
        Scalar::Null => None,
    }
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

impl<'a, 'y> Section<'a, 'y> {
    /// Reads `node`, called `name` in mistakes; notes what is no mapping. An empty node is empty.
    pub(super) fn new(name: &str, node: &'a MarkedYaml<'y>, notes: &'a Notes<'a>) -> Self {
        let line = node.span.start.line();
        let mut fields = Vec::new();
        if let YamlData::Mapping(mapping) = &node.data {
            for (key, value) in mapping {
                let line = key.span.start.line();
                let Some(key) = scalar(key) else {
                    notes.wrong(line, &format!("{name}: a key is no text"), "write a name");
                    continue;
                };
                fields.push((key, value, line));
            }
        } else if !is_null(node) {
            notes.wrong(line, &format!("{name}: is no mapping"), "write `key: value` lines");
        }
        Self { name: name.to_owned(), line, fields, asked: RefCell::default(), notes }
    }

    fn path(&self, key: &str) -> String {
        if self.name == "the file" { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn field(&self, key: &'static str) -> Option<(&'a MarkedYaml<'y>, usize)> {
        self.asked.borrow_mut().push(key);
        let found = self.fields.iter().find(|(had, ..)| had == key);
        found.filter(|(_, node, _)| !is_null(node)).map(|(_, node, line)| (*node, *line))
    }

    /// A value read by `read`; `None` when it is absent or wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (node, line) = self.field(key)?;
        let Some(text) = scalar(node) else {
            self.notes.wrong(line, &format!("{}: is no single value", self.path(key)), "write one");
            return None;
        };
        match read(&text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let wrong = wrong.at(&self.path(key));
                let what = format!("{}: {}", wrong.place, wrong.what);
                self.notes.wrong(line, &what, &wrong.instead);
                None
            }
        }
    }

    /// As [`Self::read`], and absence is a mistake.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        instead: &str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        if self.field(key).is_none() {
            self.notes.wrong(self.line, &format!("{}: missing", self.path(key)), instead);
        }
        self.read(key, read)
    }

    /// A list of texts; empty when it is absent.
    pub(super) fn list(&self, key: &'static str) -> Vec<String> {
        let Some((node, line)) = self.field(key) else {
            return Vec::new();
        };
        let texts = if let YamlData::Sequence(nodes) = &node.data {
            nodes.iter().map(scalar).collect::<Option<Vec<_>>>()
        } else {
            None
        };
        texts.unwrap_or_else(|| {
            let what = format!("{}: is no list of texts", self.path(key));
            self.notes.wrong(line, &what, "write [\"one\", \"two\"]");
            Vec::new()
        })
    }

    /// A mapping inside this one.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a, 'y>> {
        let (node, _) = self.field(key)?;
        Some(Section::new(&self.path(key), node, self.notes))
    }

    /// Every mapping inside this one, by name, with the line of its name.
    pub(super) fn sections(&self) -> Vec<(String, Section<'a, 'y>)> {
        let named = self.fields.iter().map(|(key, node, line)| {
            let mut section = Section::new(&self.path(key), node, self.notes);
            section.line = *line;
            (key.clone(), section)
        });
        named.collect()
    }

    /// Line of a key, or of the section.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.fields.iter().find(|(had, ..)| had == key).map_or(self.line, |(_, _, line)| *line)
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn done(&self) {
        let asked = self.asked.borrow();
        for (key, _, line) in &self.fields {
            if asked.contains(&key.as_str()) {
                continue;
            }
            let mut known = asked.clone();
            known.sort_unstable();
            known.dedup();
            let instead = nearest(key, known.iter().copied()).map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.notes.wrong(*line, &format!("{}: unknown key", self.path(key)), &instead);
        }
    }
}
