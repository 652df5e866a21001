//! Composition root of the driver: the only file that names concrete types.
