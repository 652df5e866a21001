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
        if self.instead.is_empty() { Ok(()) } else { write!(out, "; {}", self.instead) }
    }
}

/// A mistake.
pub fn mistake(place: &str, what: &str, instead: &str) -> Mistake {
    Mistake { place: place.to_owned(), what: what.to_owned(), instead: instead.to_owned() }
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
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=one.len()).collect();
    let mut last = None;
    for (line, wanted) in other.to_lowercase().chars().enumerate() {
        let mut row = vec![line + 1];
        for (at, had) in one.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut here = (cell(&above, at) + usize::from(*had != wanted))
                .min(cell(&above, at + 1) + 1)
                .min(cell(&row, at) + 1);
            let previous = at.checked_sub(1);
            let swapped =
                previous.and_then(|at| one.get(at)) == Some(&wanted) && last == Some(*had);
            if let (true, Some(previous)) = (swapped, previous) {
                here = here.min(cell(&before, previous) + 1);
            }
            row.push(here);
        }
        before = std::mem::replace(&mut above, row);
        last = Some(wanted);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood_and_another_word_is_not() {
        for (written, meant) in [
            ("mian", Some("main")),
            ("rolle", Some("role")),
            ("Role", Some("role")),
            ("authMehtod", Some("authMethod")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, ["authMethod", "main", "role"]), meant, "{written}");
        }
    }
}
