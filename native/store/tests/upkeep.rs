//! What a scrub finds in a store, and what a sweep deletes of it.
mod support;

use millrace_store::{
    ChunkStore, DirectoryStore, Flaw, GuardedStore, Progress, Put, Reference, References, Scrub,
    Scrubbed, Sweep, Swept,
};
use millrace_vault::{ChunkId, HeadBuf, RawPiece, Vault};
use std::fs::File;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};
use support::{Sample, everywhere};

fn path_of(root: &Path, id: &ChunkId) -> PathBuf {
    let hex = id.hex();
    root.join("chunks").join(&hex[..2]).join(&hex[2..])
}

fn reference(sample: &Sample) -> Reference {
    Reference { id: sample.id, plain_bytes: sample.plain.len() as u32 }
}

fn set(samples: &[Sample]) -> Vec<Reference> {
    let mut references = References::default();
    for sample in samples {
        references.add(reference(sample));
        references.add(reference(sample));
    }
    references.seal()
}

fn scrub(
    vault: &Vault,
    store: &dyn ChunkStore,
    references: &[Reference],
    threads: usize,
) -> Scrubbed {
    let progress = Progress::default();
    let found = Scrub { vault, store, references, progress: &progress }.run(threads).unwrap();
    if threads > 0 {
        assert_eq!(progress.done.load(Ordering::Relaxed), references.len() as u64);
    }
    found
}

/// What is wrong with the one chunk that is not all right.
fn flaw_of(found: &Scrubbed, id: &ChunkId) -> Flaw {
    assert_eq!(found.damaged, 1);
    assert_eq!(found.named.len(), 1);
    assert_eq!(found.named[0].reference.id, *id);
    found.named[0].flaw
}

/// Lengths around every border of the format, with chunks that read in several steps.
const LENGTHS: [usize; 8] = [1, 4097, 16_384, 65_535, 65_536, (1 << 20) + 1, 3 << 20, 4 << 20];

fn samples(vault: &Vault) -> Vec<Sample> {
    (0..).zip(LENGTHS).map(|(seed, bytes)| Sample::new(vault, bytes, seed)).collect()
}

#[test]
fn a_whole_store_is_clean_and_what_nothing_refers_to_is_counted() {
    let vault = Vault::from_kek(&[7; 32]);
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let samples = samples(&vault);
        for sample in &samples {
            store.put(&sample.id, &sample.object()).unwrap();
        }
        let bytes = |s: &Sample| (s.head.len() + s.data.len()) as u64;
        for threads in [0, 1, 3] {
            let found = scrub(&vault, &store, &set(&samples[2..]), threads);
            assert_eq!(found.damaged, 0, "{:?}", found.named);
            assert_eq!((found.used, found.unused), (samples.len() as u64 - 2, 2));
            assert_eq!(found.used_bytes, samples[2..].iter().map(bytes).sum::<u64>());
            assert_eq!(found.unused_bytes, samples[..2].iter().map(bytes).sum::<u64>());
        }
    }
}

/// Every byte of a small object, bit by bit, and of larger ones each part at its borders.
#[test]
fn a_scrub_finds_any_bit_that_is_not_as_it_was_stored() {
    let vault = Vault::from_kek(&[7; 32]);
    let directory = everywhere().pop().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    for sample in samples(&vault).into_iter().filter(|sample| sample.plain.len() < 2 << 20) {
        store.put(&sample.id, &sample.object()).unwrap();
        let path = path_of(directory.path(), &sample.id);
        let whole = std::fs::read(&path).unwrap();
        let references = set(std::slice::from_ref(&sample));
        let (tags, data) = (16 * sample.plain.len().div_ceil(16_384), sample.head.len());
        let borders = [0, 8, 10, 12, 16, 24, 28, 32, 36, 47, 48, 63, 64, 63 + tags];
        let more = [64 + tags, data - 1, data, whole.len() / 2, whole.len() - 1];
        let bits: Vec<usize> = if whole.len() < 256 {
            (0..whole.len() * 8).collect()
        } else {
            borders.iter().chain(&more).map(|byte| byte * 8 + byte % 8).collect()
        };
        for bit in bits {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            let found = scrub(&vault, &store, &references, 2);
            let flaw = flaw_of(&found, &sample.id);
            // An object that names another epoch is not told from one of that epoch.
            let is_epoch = (12..16).contains(&(bit / 8)) && matches!(flaw, Flaw::Epoch(_));
            assert!(flaw == Flaw::Damaged || is_epoch, "bit {bit} of {}: {flaw:?}", whole.len());
            assert_eq!(scrub(&vault, &store, &references, 0).damaged, 0);
        }
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(scrub(&vault, &store, &references, 1).damaged, 0);
    }
}

#[test]
fn objects_that_are_gone_or_of_another_length_are_found_without_opening_any() {
    let vault = Vault::from_kek(&[7; 32]);
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let samples = samples(&vault);
        let references = set(&samples);
        for sample in &samples {
            store.put(&sample.id, &sample.object()).unwrap();
        }
        for sample in &samples {
            let path = path_of(directory.path(), &sample.id);
            let whole = std::fs::read(&path).unwrap();
            let longer = [&whole[..], &[0]].concat();
            for damaged in [&whole[..whole.len() - 1], &whole[..1], &[], &longer] {
                std::fs::write(&path, damaged).unwrap();
                for threads in [0, 2] {
                    let found = scrub(&vault, &store, &references, threads);
                    assert_eq!(flaw_of(&found, &sample.id), Flaw::Length);
                }
            }
            std::fs::remove_file(&path).unwrap();
            for threads in [0, 2] {
                let found = scrub(&vault, &store, &references, threads);
                assert_eq!(flaw_of(&found, &sample.id), Flaw::Missing);
            }
            std::fs::write(&path, &whole).unwrap();
        }
        // Two files that disagree about one chunk: at most one of them is right.
        let other = Reference { plain_bytes: 2, ..reference(&samples[0]) };
        let mut both = vec![reference(&samples[0]), other];
        both.sort_unstable();
        let found = scrub(&vault, &store, &both, 1);
        assert_eq!(flaw_of(&found, &samples[0].id), Flaw::Length);
        assert_eq!(found.named[0].reference, other);
    }
}

/// Only who has the key can make such an object.
#[test]
fn an_object_that_opens_but_holds_something_else_is_found() {
    let vault = Vault::from_kek(&[7; 32]);
    let directory = everywhere().pop().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    let (mut plain, mut head) = (vec![3; 20_000], HeadBuf::new());
    let id = ChunkId([9; 32]);
    let piece = RawPiece { ptr: plain.as_mut_ptr(), len: plain.len() };
    // SAFETY: the buffer is this test's own, and nothing else is sealed under this id and test key.
    unsafe { vault.seal_pieces(&id, &[piece], &mut head) };
    store.put(&id, &[IoSlice::new(head.bytes()), IoSlice::new(&plain)]).unwrap();
    let references = [Reference { id, plain_bytes: 20_000 }];
    assert_eq!(flaw_of(&scrub(&vault, &store, &references, 1), &id), Flaw::OtherContent);
}

#[test]
fn a_sweep_deletes_what_is_unused_and_old_enough() {
    let vault = Vault::from_kek(&[7; 32]);
    for directory in everywhere() {
        let store = GuardedStore::new(Arc::new(DirectoryStore::open(directory.path()).unwrap()));
        let samples = samples(&vault);
        for sample in &samples {
            store.put(&sample.id, &sample.object()).unwrap();
        }
        let age = |index: usize, seconds| {
            let file = File::options()
                .write(true)
                .open(path_of(directory.path(), &samples[index].id))
                .unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
        };
        let bytes = |range: std::ops::Range<usize>| -> u64 {
            samples[range].iter().map(|s| (s.head.len() + s.data.len()) as u64).sum()
        };
        // 0 and 1 are used, however old; 2 and 3 are unused and old; the others are young.
        for index in 0..4 {
            age(index, 7200);
        }
        std::fs::write(directory.path().join("chunks/00/not-an-object"), b"x").unwrap();
        let cancelled = AtomicBool::new(false);
        let is_cancelled = || cancelled.load(Ordering::Relaxed);
        let sweep = |grace, dry_run| {
            let written_before = Sweep::before(Duration::from_secs(grace));
            let mut gone = Vec::new();
            assert!(store.kept().begin());
            for sample in &samples[..2] {
                store.kept().keep(&sample.id);
            }
            let sweep = Sweep { store: &store, written_before, dry_run, cancelled: &is_cancelled };
            let swept = sweep.run(|id| gone.push(*id));
            store.kept().end();
            assert_eq!(gone.len() as u64, swept.map_or(0, |s| if dry_run { 0 } else { s.deleted }));
            swept
        };
        let expected = Swept {
            used: 2,
            used_bytes: bytes(0..2),
            young: 4,
            young_bytes: bytes(4..8),
            deleted: 2,
            deleted_bytes: bytes(2..4),
        };
        assert_eq!(sweep(3600, true), Ok(expected));
        assert!(samples.iter().all(|sample| store.has(&sample.id) == Ok(true)));
        assert_eq!(sweep(3600, false), Ok(expected));
        let kept: Vec<bool> = samples.iter().map(|s| store.has(&s.id).unwrap()).collect();
        assert_eq!(kept, [true, true, false, false, true, true, true, true]);
        cancelled.store(true, Ordering::Relaxed);
        assert_eq!(sweep(0, false), Err(libc::ECANCELED));
        cancelled.store(false, Ordering::Relaxed);
        assert_eq!(sweep(0, false).unwrap().deleted, 4);
        assert_eq!(scrub(&vault, &store, &set(&samples[..2]), 1).damaged, 0);
        assert!(directory.path().join("chunks/00/not-an-object").exists());
    }
}

/// What was stored or found present since the collection began is not its business, however old it is.
#[test]
fn a_sweep_spares_what_was_put_or_found_since_the_collection_began() {
    let vault = Vault::from_kek(&[7; 32]);
    for directory in everywhere() {
        let store = GuardedStore::new(Arc::new(DirectoryStore::open(directory.path()).unwrap()));
        let samples = samples(&vault);
        for sample in &samples[1..] {
            store.put(&sample.id, &sample.object()).unwrap();
        }
        let sweep = || {
            let written_before = Sweep::before(Duration::ZERO);
            let sweep =
                Sweep { store: &store, written_before, dry_run: false, cancelled: &|| false };
            sweep.run(|_| {}).unwrap().deleted
        };
        assert_eq!(sweep(), 0, "without a collection nobody knows what is needed");
        assert!(store.kept().begin());
        store.put(&samples[0].id, &samples[0].object()).unwrap();
        assert_eq!(store.has(&samples[1].id), Ok(true));
        assert_eq!(store.put(&samples[2].id, &samples[2].object()), Ok(Put { present: true }));
        assert_eq!(sweep(), samples.len() as u64 - 3);
        for (index, sample) in samples.iter().enumerate() {
            assert_eq!(store.has(&sample.id), Ok(index < 3));
        }
        store.kept().end();
    }
}

/// Threads that store what they need, and need it no longer, while one collects over and over.
#[test]
fn whoever_stores_while_garbage_is_collected_finds_it_again() {
    let vault = Vault::from_kek(&[7; 32]);
    let directory = everywhere().pop().unwrap();
    let store = GuardedStore::new(Arc::new(DirectoryStore::open(directory.path()).unwrap()));
    // Few contents, so that most of what is stored is there already.
    let samples: Vec<Sample> = (0..6).map(|seed| Sample::new(&vault, 20_000, seed)).collect();
    let needed: Vec<Mutex<bool>> = samples.iter().map(|_| Mutex::new(false)).collect();
    // Held by who stores from the look to the reference: what the engine waits for by its queues.
    let storing = RwLock::new(());
    let stop = AtomicBool::new(false);
    let deleted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (store, samples, needed) = (&store, &samples, &needed);
            let (storing, stop) = (&storing, &stop);
            scope.spawn(move || {
                let mut state = writer + 1;
                while !stop.load(Ordering::Relaxed) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let index = (state >> 33) as usize % samples.len();
                    let (sample, needed) = (&samples[index], &needed[index]);
                    if state >> 62 == 0 {
                        *needed.lock().unwrap() = false;
                        continue;
                    }
                    let _storing = storing.read().unwrap();
                    if store.has(&sample.id) != Ok(true) {
                        store.put(&sample.id, &sample.object()).unwrap();
                    }
                    *needed.lock().unwrap() = true;
                }
            });
        }
        for _ in 0..60 {
            assert!(store.kept().begin());
            drop(storing.write().unwrap());
            for (sample, needed) in samples.iter().zip(&needed) {
                if *needed.lock().unwrap() {
                    store.kept().keep(&sample.id);
                }
            }
            let written_before = SystemTime::now() + Duration::from_secs(60);
            let sweep =
                Sweep { store: &store, written_before, dry_run: false, cancelled: &|| false };
            deleted.fetch_add(sweep.run(|_| {}).unwrap().deleted, Ordering::Relaxed);
            store.kept().end();
            let _storing = storing.write().unwrap();
            for (sample, needed) in samples.iter().zip(&needed) {
                if *needed.lock().unwrap() {
                    assert_eq!(store.has(&sample.id), Ok(true), "a chunk that is needed is gone");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(deleted.load(Ordering::Relaxed) > 0, "nothing was ever deleted: this proves nothing");
}
