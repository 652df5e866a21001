//! Places where a test kills the process: between two writes of the state, and inside one. In a release build
//! there are none.
//!
//! `KEYHOLE_FAIL_POINT=name:3` kills the process when it comes to `name` for the third time.

/// Every place, in the order in which a volume comes to them.
pub const ALL: [&str; 12] = [
    "journal.before",
    "journal.torn",
    "journal.moving",
    "journal.moved",
    "journal.after",
    "publish.mounted",
    "publish.deposited",
    "rotation.symlink",
    "rotation.rename",
    "rotation.linked",
    "unpublish.ended",
    "unpublish.withdrawn",
];

/// The process comes to the place called `name`.
#[inline]
pub fn reach(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ARMED: OnceLock<Option<(String, AtomicUsize)>> = OnceLock::new();

    pub(super) fn reach(name: &'static str) {
        debug_assert!(super::ALL.contains(&name), "{name} is not in the list of fail points");
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var("KEYHOLE_FAIL_POINT").ok()?;
            let (name, times) = text.rsplit_once(':')?;
            Some((name.to_owned(), AtomicUsize::new(times.parse().ok()?)))
        });
        let Some((wanted, left)) = armed else { return };
        if wanted == name && left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // As `kill -9` from outside: no destructor, no handler.
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
    }
}
