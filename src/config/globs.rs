//! Globs of allow-lists: `*` is any text, `?` one character, everything else itself.

/// Whether any of `globs` fits all of `name`.
pub fn matches(globs: &[String], name: &str) -> bool {
    globs.iter().any(|glob| fits(glob, name))
}

/// Linear in the name for each `*`: after a mismatch only the last `*` takes one character more.
fn fits(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = name.get(from) {
        match glob.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == letter => {
                at += 1;
                from += 1;
            }
            Some(_) | None => {
                let Some((starred, taken)) = star else {
                    return false;
                };
                star = Some((starred, taken + 1));
                at = starred + 1;
                from = taken + 1;
            }
        }
    }
    glob.get(at..).is_some_and(|rest| rest.iter().all(|letter| *letter == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_whole_names() {
        for (glob, name, wanted) in [
            ("*", "", true),
            ("*", "anything", true),
            ("shop-*", "shop-eu", true),
            ("shop-*", "shop", false),
            ("*-eu", "shop-eu", true),
            ("s*p-*u", "shop-eu-u", true),
            ("sh?p", "shop", true),
            ("sh?p", "shp", false),
            ("a.b", "aXb", false),
            ("shop", "shop-eu", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(&[glob.to_owned()], name), wanted, "{glob} {name}");
        }
        assert!(matches(&["a".into(), "b*".into()], "bc"));
        assert!(!matches(&[], "a"));
    }
}
