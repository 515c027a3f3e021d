//! Sealing anew what earlier keys have sealed: whatever stops it, every object is whole.
mod support;

use millrace_store::{
    Census, ChunkStore, DirectoryStore, EpochChunks, Flaw, Progress, Reference, References, Reseal,
    Resealed, Scrub, WalkProgress, faulty,
};
use millrace_vault::{Header, KeyRing, Vault};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{Sample, everywhere};

const STORE: &[u8] = b"a store";
const LENGTHS: [usize; 7] = [1, 4097, 16_384, 65_536, (1 << 20) + 1, 3 << 20, 4 << 20];

/// The vaults of the first epoch, of the second, and of the second when the first is dropped.
fn vaults() -> [Vault; 3] {
    let (old_key, key) = ([7; 32], [8; 32]);
    let first = Vault::from_kek(&old_key);
    let sealed = first.rotated_ring(&key, STORE).unwrap();
    let open =
        |sealed: &[u8]| Vault::unlock(&key, &KeyRing { store: STORE, epoch: 2, sealed }).unwrap();
    let second = open(&sealed);
    let alone = open(&second.ring_of_current_epoch(&key, STORE).unwrap());
    [first, second, alone]
}

fn path_of(root: &Path, sample: &Sample) -> PathBuf {
    let hex = sample.id.hex();
    root.join("chunks").join(&hex[..2]).join(&hex[2..])
}

fn reseal(vault: &Vault, store: &dyn ChunkStore, threads: usize) -> Result<Resealed, i32> {
    let progress = WalkProgress::default();
    let done = Reseal { vault, store, progress: &progress }.run(threads);
    if let Ok(done) = &done {
        // ORDER: the threads have ended.
        let [total, seen] = [&progress.total, &progress.done].map(|n| n.load(Ordering::Relaxed));
        assert_eq!((total, seen), (total, done.resealed + done.current + done.unopened.count));
        assert_eq!(progress.bytes.load(Ordering::Relaxed), done.resealed_bytes);
    }
    done
}

fn census(vault: &Vault, store: &dyn ChunkStore) -> (Vec<(u32, EpochChunks)>, u64) {
    let count = |deep| {
        let progress = WalkProgress::default();
        Census { vault, store, progress: &progress }.run(2, deep).unwrap()
    };
    let (shallow, deep) = (count(false), count(true));
    assert_eq!((&shallow.epochs, shallow.unopened.count), (&deep.epochs, deep.unopened.count));
    (shallow.epochs.into_iter().collect(), shallow.unopened.count)
}

/// How many of the samples do not open.
fn damaged(vault: &Vault, store: &dyn ChunkStore, samples: &[Sample]) -> u64 {
    let mut references = References::default();
    for sample in samples {
        references.add(Reference { id: sample.id, plain_bytes: sample.plain.len() as u32 });
    }
    let references = references.seal();
    let progress = Progress::default();
    Scrub { vault, store, references: &references, progress: &progress }.run(2).unwrap().damaged
}

fn stored(store: &dyn ChunkStore, vault: &Vault) -> Vec<Sample> {
    let samples: Vec<Sample> =
        (0..).zip(LENGTHS).map(|(seed, bytes)| Sample::new(vault, bytes, seed)).collect();
    for sample in &samples {
        store.put(&sample.id, &sample.object()).unwrap();
    }
    samples
}

#[test]
fn everything_is_sealed_under_the_current_key_once() {
    let [first, second, alone] = vaults();
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let samples = stored(&store, &first);
        let fresh = Sample::new(&second, 5000, 77);
        store.put(&fresh.id, &fresh.object()).unwrap();
        assert_eq!(damaged(&second, &store, &samples), 0);
        assert_eq!(damaged(&alone, &store, &samples), samples.len() as u64);
        let bytes = LENGTHS.iter().sum::<usize>() as u64;
        let (old, new) = (EpochChunks { chunks: 7, bytes }, EpochChunks { chunks: 1, bytes: 5000 });
        assert_eq!(census(&second, &store), (vec![(1, old), (2, new)], 0));
        assert_eq!(census(&alone, &store), (vec![(2, new)], 7));
        let done = reseal(&second, &store, 3).unwrap();
        assert_eq!(
            (done.resealed, done.current, done.unopened.count),
            (samples.len() as u64, 1, 0)
        );
        assert_eq!(done.resealed_bytes, LENGTHS.iter().sum::<usize>() as u64);
        for sample in &samples {
            // What the second epoch would have written itself, byte by byte.
            let object = std::fs::read(path_of(directory.path(), sample)).unwrap();
            let made = Sample::new(&second, sample.plain.len(), sample.plain[0]);
            assert_eq!((made.id, &made.plain), (sample.id, &sample.plain));
            assert!(object == [made.head, made.data].concat());
            assert_eq!(Header::claimed_epoch(&object), Some(2));
        }
        assert_eq!(damaged(&alone, &store, &samples), 0);
        assert_eq!(damaged(&first, &store, &samples), samples.len() as u64);
        let again = reseal(&second, &store, 2).unwrap();
        assert_eq!((again.resealed, again.current), (0, samples.len() as u64 + 1));
        assert_eq!(std::fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }
}

#[test]
fn what_does_not_open_stays_as_it_is_and_is_named() {
    let [first, second, _] = vaults();
    let directory = everywhere().pop().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    let samples = stored(&store, &first);
    let path = path_of(directory.path(), &samples[3]);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let done = reseal(&second, &store, 2).unwrap();
    assert_eq!((done.resealed, done.unopened.count), (samples.len() as u64 - 1, 1));
    assert_eq!(
        (done.unopened.named[0].id, done.unopened.named[0].flaw),
        (samples[3].id, Flaw::Damaged)
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn an_epoch_whose_key_is_gone_is_named() {
    let [first, _, alone] = vaults();
    let directory = everywhere().pop().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    let samples = stored(&store, &first);
    let done = reseal(&alone, &store, 1).unwrap();
    assert_eq!(done.unopened.count, samples.len() as u64);
    assert!(done.unopened.named.iter().all(|chunk| chunk.flaw == Flaw::Epoch(1)));
}

#[test]
fn a_store_that_takes_no_more_objects_ends_it_and_it_can_go_on_later() {
    let [first, second, _] = vaults();
    let directory = everywhere().pop().unwrap();
    let store = Arc::new(DirectoryStore::open(directory.path()).unwrap());
    let samples = stored(store.as_ref(), &first);
    let refusing = faulty(store.clone(), "put-errno=28,after=3");
    assert_eq!(reseal(&second, refusing.as_ref(), 2).unwrap_err(), libc::ENOSPC);
    assert_eq!(damaged(&second, store.as_ref(), &samples), 0);
    let done = reseal(&second, store.as_ref(), 2).unwrap();
    assert_eq!((done.resealed, done.current), (samples.len() as u64 - 3, 3));
}
