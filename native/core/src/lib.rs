//! The data path without FUSE and without Node: shared memory, rings, frames, requests, movers and workers.
//!
//! Fronts (`millrace-fuse`) take frames and requests and push descriptors. Workers (TypeScript, through the
//! binding) call [`Engine::poll`]: it executes the commands that they wrote and hands them descriptors. Movers
//! (threads of this crate) hash, seal, store and read. Nothing here decides what a file is.

#[cfg(not(loom))]
mod command;
#[cfg(not(loom))]
mod digest;
#[cfg(not(loom))]
mod engine;
#[cfg(not(loom))]
mod frames;
#[cfg(not(loom))]
mod futex;
#[cfg(not(loom))]
mod hosted;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod mortality;
#[cfg(not(loom))]
mod mover;
mod overflow;
#[cfg(not(loom))]
mod reply;
#[cfg(not(loom))]
mod requests;
mod ring;
#[cfg(not(loom))]
mod stack;
mod sync;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use digest::Piece;
#[cfg(not(loom))]
pub use engine::{Config, Engine, Wake};
#[cfg(not(loom))]
pub use hosted::{HostedFront, Taken};
#[cfg(not(loom))]
pub use memory::{Memory, Region};
#[cfg(not(loom))]
pub use millrace_store::{KillPoint, pass};
#[cfg(not(loom))]
pub use mortality::Life;
#[cfg(not(loom))]
pub use mover::Scratch;
#[cfg(not(loom))]
pub use reply::{ReplySink, SINK_FD, reply};
pub use ring::{Cells, Ring, Words};
#[cfg(not(loom))]
pub use stack::hide_stack;
