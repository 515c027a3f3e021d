//! The lock of what a collection keeps: the real one, or loom's when the model checker runs the same code.
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
