//! What we know of this machine: cgroups of callers.
