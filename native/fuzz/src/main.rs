//! libFuzzer over one target: MILLRACE_FUZZ_TARGET names it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_fuzz::{TARGETS, Target, target};
use std::sync::OnceLock;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("MILLRACE_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("MILLRACE_FUZZ_TARGET is \"{name}\"; known are {}", known.join(", "));
        std::process::exit(2)
    })
}

fuzz_target!(init: { CHOSEN.get_or_init(chosen); }, |data: &[u8]| {
    (CHOSEN.get_or_init(chosen).run)(data);
});
