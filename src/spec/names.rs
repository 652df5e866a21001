//! Names of files: what the kernel, Kubernetes' layout and we ourselves can have.

use crate::spec::mistake::{Mistake, mistake};
use crate::spec::{Field, FileSpec};

/// The most files of a volume.
const MAX_FILES: usize = 256;
/// The most parts of a name.
const MAX_PARTS: usize = 16;
/// The most bytes of a part (NAME_MAX).
const MAX_PART: usize = 255;

/// The mistakes in `names`, each by itself.
pub(super) fn check<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Mistake> {
    let mut mistakes: Vec<_> = names.clone().filter_map(wrong).collect();
    let count = names.count();
    if count > MAX_FILES {
        let what = format!("{count} files are more than the {MAX_FILES} that are allowed");
        mistakes.push(mistake("volumeAttributes", &what, "split the volume in two"));
    }
    mistakes
}

fn wrong(name: &str) -> Option<Mistake> {
    let say = |what: &str, instead: &str| Some(mistake(&format!("{name}/"), what, instead));
    let parts: Vec<&str> = name.split('/').collect();
    if name.is_empty() {
        return say("the file has no name", "write `<file>/secret`");
    }
    if name.starts_with('/') {
        return say("a file's name cannot begin with /", "write it relative to the volume's root");
    }
    if parts.iter().any(|part| part.is_empty()) {
        return say("a file's name cannot have an empty part", "write single slashes");
    }
    if parts.iter().any(|part| *part == "." || part.starts_with("..")) {
        return say(
            "parts that begin with .. are reserved, and `.` is no name",
            "choose another name",
        );
    }
    if parts.first() == Some(&".keyhole") {
        return say(".keyhole is reserved for the volume's status", "choose another name");
    }
    if name.chars().any(char::is_control) {
        return say("a file's name cannot have control characters", "remove them");
    }
    if parts.iter().any(|part| part.len() > MAX_PART) {
        return say("a part of a file's name can have 255 bytes at most", "shorten it");
    }
    if parts.len() > MAX_PARTS {
        return say("a file's name can have 16 parts at most", "use fewer folders");
    }
    None
}

/// Files that are also folders of others. `files` are sorted by name.
pub(super) fn clashes(files: &[FileSpec]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for folder in files {
        let inside = format!("{}/", folder.name);
        let Some(first) = files.iter().find(|file| file.name.starts_with(&inside)) else {
            continue;
        };
        let what = if folder.field == Field::Each {
            format!("is a folder with a file per field and cannot hold {:?} as well", first.name)
        } else {
            format!("is a file and cannot be the folder of {:?} as well", first.name)
        };
        mistakes.push(mistake(&folder.name, &what, "rename one of them"));
    }
    mistakes
}
