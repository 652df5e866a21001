//! The real `keyhole keeper`: what is deposited outlives the depositor, and there is one holder at a time.
//!
//! Drivers are played by processes of their own (`actor`): the keeper kills them.

mod actor;
mod baton;
mod hostile;
mod process;
mod rotator;
mod store;

/// What [`actor::Actor`] runs; alone it does nothing.
#[test]
#[ignore = "started by the others, with a keeper's socket"]
fn plays_a_driver() {
    actor::play();
}
