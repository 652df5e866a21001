//! Volume attributes.
