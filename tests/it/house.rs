//! The rules of the house that a program can check: arrows, headers, sizes, and that the pages are true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keyhole::spec::attributes::{KEYS, Scope};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All Rust files of a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn every_file_holds_one_idea_and_says_which() {
    let mut wrong = Vec::new();
    for path in sources("src").into_iter().chain(sources("tests")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        if !text.starts_with("//! ") {
            wrong.push(format!("{} does not start with //!", path.display()));
        }
        if lines > 400 {
            wrong.push(format!("{} has {lines} lines", path.display()));
        }
        if path.ends_with("mod.rs") {
            wrong.push(format!("{}: foo.rs and foo/, never mod.rs", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A room, and the rooms that it may use besides its own.
const ARROWS: [(&str, &[&str]); 22] = [
    ("clock", &[]),
    ("failpoint", &[]),
    ("redact", &[]),
    ("identity", &["clock", "redact"]),
    ("secret", &["clock", "identity", "redact"]),
    ("spec", &["clock", "identity", "redact", "secret"]),
    ("render", &["redact", "secret", "spec"]),
    ("kept", &["failpoint", "redact"]),
    ("fs", &["clock", "identity", "kept", "redact", "render", "secret", "spec"]),
    ("lease", &["clock", "identity", "kept", "redact", "secret"]),
    ("config", &["clock", "fs", "identity", "spec"]),
    (
        "volume",
        &[
            "clock",
            "config",
            "failpoint",
            "fs",
            "identity",
            "kept",
            "lease",
            "redact",
            "render",
            "secret",
            "spec",
            "telemetry",
        ],
    ),
    ("vault", &["clock", "config", "identity", "redact", "secret", "spec"]),
    ("fuse", &["clock", "failpoint", "fs", "redact", "identity"]),
    ("host", &["clock", "fs", "identity", "kept", "telemetry", "volume"]),
    ("telemetry", &["clock", "lease", "fs"]),
    ("admin", &["telemetry"]),
    ("csi", &["admin", "clock", "fs", "identity", "redact", "spec", "telemetry", "volume"]),
    ("fake_vault", &["clock", "spec"]),
    ("keeper", &["clock", "redact"]),
    ("custody", &["clock", "fs", "host", "keeper", "kept", "telemetry", "volume"]),
    ("responder", &["fuse", "host", "keeper", "kept"]),
];

/// Crates that stay in their rooms.
const KEPT: [(&str, &[&str]); 9] = [
    ("fuser", &["fuse"]),
    ("vaultrs", &["vault"]),
    ("rustify", &["vault"]),
    ("tonic", &["csi"]),
    ("prost", &["csi"]),
    ("prometheus_client", &["telemetry"]),
    ("saphyr", &["config"]),
    ("rcgen", &["fake_vault"]),
    ("reqwest", &["vault", "fake_vault", "demo"]),
];

/// The first folder or file below `src`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(ROOT).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// What comes before the tests at a file's end, without comments.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The names that follow `prefix` in the text.
fn named<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(prefix)
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn arrows_between_rooms_go_one_way() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        let own = room(&path);
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == own) else {
            assert!(
                ["lib", "main", "app", "cli", "demo"].contains(&own.as_str()),
                "{own} has no arrows"
            );
            continue;
        };
        if path.ends_with("tests.rs") {
            continue;
        }
        for used in named(&code(&path), "crate::") {
            let is_room = ARROWS.iter().any(|(name, _)| *name == used)
                || ["app", "cli", "demo"].contains(&used);
            if is_room && used != own && !may.contains(&used) {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a path in the text begins with the library's name.
fn uses(text: &str, library: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    text.match_indices(&format!("{library}::")).any(|(at, _)| !text[..at].ends_with(inside))
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for path in sources("src").into_iter().filter(|path| !path.ends_with("tests.rs")) {
        let (own, text) = (room(&path), code(&path));
        for (library, rooms) in KEPT {
            if uses(&text, library) && !rooms.contains(&own.as_str()) {
                wrong.push(format!("{} uses {library}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_rooms_neither_ask_the_time_nor_touch_the_machine() {
    let mut wrong = Vec::new();
    for path in sources("src") {
        if !["identity", "secret", "spec", "render", "fs", "kept"].contains(&room(&path).as_str())
            || path.ends_with("tests.rs")
        {
            continue;
        }
        for word in
            ["::now()", "std::fs", "std::net", "tokio::", "std::process", "std::thread", "std::env"]
        {
            if code(&path).contains(word) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_promise_is_executed_by_a_test_of_its_name() {
    let tests: String =
        sources("tests/it").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let promises = page("SEMANTICS.md");
    let promises: Vec<_> = promises
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|promise| !promise.starts_with("What is not"))
        .collect();
    assert!(promises.len() > 10);
    for promise in promises {
        let name = promise.to_lowercase().replace(' ', "_");
        assert!(tests.contains(&format!("fn {name}()")), "no test is called {name}");
    }
}

/// The table of README, as the program knows it.
fn attributes() -> String {
    let mut table =
        String::from("| key | values | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in KEYS {
        let name = match key.scope {
            Scope::Volume => key.name.to_owned(),
            Scope::File => format!("<file>/{}", key.name),
        };
        table += &format!("| `{name}` | {} | {} | {} |\n", key.values, key.default, key.meaning);
    }
    table
}

#[test]
fn the_readme_lists_every_attribute() {
    let readme = page("README.md");
    let inside = readme
        .split("<!-- attributes: begin")
        .nth(1)
        .and_then(|rest| rest.split("<!-- attributes: end").next());
    let inside =
        inside.expect("README has no place for the attributes").split_once("-->\n").unwrap().1;
    assert_eq!(inside, attributes(), "put this table between the two marks of README.md");
}

#[test]
fn the_readme_lists_every_flag() {
    let help = std::process::Command::new(crate::cases::world::program())
        .args(["driver", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let flags: BTreeSet<String> =
        named(&help, "--").iter().map(|name| (*name).to_owned()).collect();
    let readme = page("README.md");
    for line in help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--").or(line.trim().strip_prefix("-h, --")))
    {
        let flag = line.split([' ', '=']).next().unwrap();
        let known = readme.contains(&format!("`--{flag}`")) || flag == "help";
        assert!(known, "--{flag} is not in README.md");
    }
    assert!(flags.len() > 5);
    for variable in named(&help, "KEYHOLE_") {
        assert!(
            readme.contains(&format!("`KEYHOLE_{variable}`")),
            "KEYHOLE_{variable} is not in README.md"
        );
    }
}

#[test]
fn the_architecture_names_every_room() {
    let text = page("ARCHITECTURE.md");
    let rooms: BTreeSet<String> = sources("src").iter().map(|path| room(path)).collect();
    for room in rooms.iter().filter(|room| !["lib", "main"].contains(&room.as_str())) {
        assert!(
            text.contains(&format!("`{room}`")) || text.contains(&format!("`{room}/`")),
            "{room} is not in ARCHITECTURE.md"
        );
    }
}
