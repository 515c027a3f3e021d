//! The data path without FUSE and without Node: shared memory, rings, frames, requests, movers and workers.
//!
//! Fronts (`millrace-fuse`) take frames and requests and push descriptors. Workers (TypeScript, through the
//! binding) call [`Engine::poll`]: it executes the commands that they wrote and hands them descriptors. Movers
//! (threads of this crate) hash, seal, store and read. Nothing here decides what a file is.

mod command;
mod engine;
mod frames;
mod futex;
mod memory;
mod mover;
mod reply;
mod requests;
mod ring;
mod sync;
mod worker;

pub use engine::{Config, Engine, Wake};
pub use memory::{Memory, Region};
pub use reply::reply;
pub use ring::{Cells, Ring, Words};
