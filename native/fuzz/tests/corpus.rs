//! Every input that is kept, and every seed, on any toolchain and without a fuzzer.
use millrace_fuzz::{TARGETS, target};
use std::path::{Path, PathBuf};

fn inputs(name: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut all: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

#[test]
fn each_target_has_a_corpus_and_holds_on_it() {
    for target in TARGETS {
        let inputs = inputs(target.name);
        assert!(!inputs.is_empty(), "no corpus for {}", target.name);
        for input in inputs {
            println!("{}", input.display());
            (target.run)(&std::fs::read(input).unwrap());
        }
        (target.run)(&[]);
    }
}

#[test]
fn each_seed_is_in_the_corpus_as_the_encoders_make_it_now() {
    for target in TARGETS {
        for (name, bytes) in (target.seeds)() {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("corpus/{}/seed-{name}", target.name));
            // Salts and so ciphertexts differ from run to run: of sealed seeds only the length counts.
            let kept = std::fs::read(&path).unwrap_or_default();
            assert_eq!(kept.len(), bytes.len(), "{}: run fuzz-seeds", path.display());
        }
    }
}

#[test]
fn targets_are_found_by_their_names() {
    assert!(TARGETS.iter().all(|known| target(known.name).is_some_and(|t| t.name == known.name)));
    assert!(target("none").is_none());
}
