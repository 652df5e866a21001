//! The host's side: who a thread is, and the audit line.
//!
//! See [`callers`] first. Adapters: they read /proc and log; they decide nothing.

pub mod audit;
pub mod callers;
pub mod limits;
pub mod pods;
pub mod segment;
