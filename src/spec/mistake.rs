//! [`Mistake`]: one thing that is wrong in what a person wrote: where, what, what to write instead.

/// One mistake, for the pod's event or the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key, or `file:line` in a configuration file.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
    /// What to write instead; empty when there is nothing better to say.
    pub instead: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.place, self.what)?;
        if self.instead.is_empty() {
            Ok(())
        } else {
            write!(out, "; {}", self.instead)
        }
    }
}

/// The one of `known` that a person most likely meant by `written`, if any is near.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap to get from one word to the other, case ignored.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=one.len()).collect();
    for (line, wanted) in other.to_lowercase().chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (had, cell) in one.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(*had != wanted))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
