//! What reads bytes that others made, fed with bytes that nobody made.
//!
//! Each target takes any bytes and panics when a promise is broken; what a parser refuses is no failure. The binary
//! `fuzz` feeds them from libFuzzer, `tests/corpus.rs` from the inputs that are kept. `README.md` says how to run them.

mod bridge;
mod chunk;
mod command;
mod directory;
mod guard;
mod init;
mod keyring;
mod pages;
mod records;

mod session;
#[expect(dead_code, reason = "the tests of the engine use the rest")]
#[path = "../../core/tests/support/mod.rs"]
mod support;
mod value;
mod worker;

pub use chunk::{Object, sealed};

/// One parser, or one chain of them.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What the command line calls it, and the name of its corpus.
    pub name: &'static str,
    /// Feed it. Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that its encoders make, by name: what the corpus begins with.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "session", run: session::run, seeds: session::seeds },
    Target { name: "init", run: init::run, seeds: init::seeds },
    Target { name: "bridge", run: bridge::run, seeds: bridge::seeds },
    Target { name: "directory", run: directory::run, seeds: directory::seeds },
    Target { name: "command", run: command::run, seeds: command::seeds },
    Target { name: "pages", run: pages::run, seeds: pages::seeds },
    Target { name: "chunk", run: chunk::run, seeds: chunk::seeds },
    Target { name: "keyring", run: keyring::run, seeds: keyring::seeds },
    Target { name: "value", run: value::run, seeds: value::seeds },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
