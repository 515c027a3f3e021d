//! What a store refuses goes into a journal, and comes back from there.
mod support;

use millrace_store::{ChunkStore, DirectoryStore, JournaledStore, Place, Put, ReadError, faulty};
use millrace_vault::{ChunkId, Vault};
use std::collections::HashMap;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use support::{Directory, Sample, everywhere};

const HEADER: &[u8] = &[7; 64];
const HEAD_BYTES: u64 = 16;
const ID_BYTES: u64 = 32;

fn open(directory: &Directory, faults: &str) -> JournaledStore {
    let root = directory.path().join("store");
    JournaledStore::new(faulty(Arc::new(DirectoryStore::open(&root).unwrap()), faults))
}

/// Where the objects of these samples lie when they were put one after the other.
fn places(samples: &[Sample]) -> HashMap<ChunkId, Place> {
    let mut at = HEADER.len() as u64;
    let mut places = HashMap::new();
    for sample in samples {
        let bytes = (sample.head.len() + sample.data.len()) as u64;
        places.insert(sample.id, Place { offset: at + HEAD_BYTES + ID_BYTES, bytes });
        at += HEAD_BYTES + ID_BYTES + bytes;
    }
    places
}

fn samples(vault: &Vault) -> Vec<Sample> {
    [1, 5000, 70_001, 4 << 20].map(|bytes| Sample::new(vault, bytes, 3)).into()
}

/// A journal with all samples, which the store has refused.
fn write_journal(directory: &Directory, vault: &Vault, samples: &[Sample]) {
    let store = open(directory, "put-errno=28");
    let refused = store.put(&samples[0].id, &samples[0].object());
    assert_eq!(refused, Err(libc::ENOSPC), "nothing takes it before a journal is begun");
    let part = directory.path().join("j.part");
    store.begin(&part, HEADER).unwrap();
    assert_eq!(store.begin(&part, HEADER), Err(libc::EEXIST));
    for sample in samples {
        assert_eq!(store.has(&sample.id), Ok(false));
        assert_eq!(store.put(&sample.id, &sample.object()), Ok(Put { present: false }));
        assert_eq!(store.put(&sample.id, &sample.object()), Ok(Put { present: true }));
        assert_eq!((store.has(&sample.id), store.stores(&sample.id)), (Ok(true), Ok(false)));
    }
    assert_eq!(store.end_objects().0, samples.len());
    let late = Sample::new(vault, 9, 9);
    assert_eq!(store.put(&late.id, &late.object()), Err(libc::ENOSPC));
    store.append(3, b"the end").unwrap();
    store.finish(&directory.path().join("j")).unwrap();
    assert_eq!(store.append(3, b"more"), Err(libc::EBADF));
    assert!(!part.exists());
}

#[test]
fn what_a_store_refuses_comes_back_from_the_journal() {
    let vault = Vault::from_kek(&[7; 32]);
    for directory in everywhere() {
        let samples = samples(&vault);
        write_journal(&directory, &vault, &samples);
        let path = directory.path().join("j");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(HEADER) && bytes.ends_with(b"the end"));
        let store = open(&directory, "");
        store.attach(&path, places(&samples)).unwrap();
        let mut buffer = vec![0; (4 << 20) + (32 << 10)];
        for sample in &samples {
            let verified = store.verify(&vault, &sample.id, &mut buffer);
            assert_eq!(verified, Ok(sample.plain.len()));
            assert_eq!(store.stores(&sample.id), Ok(false));
            assert_eq!(store.restore(&sample.id), Ok(Put { present: false }));
            assert_eq!(store.restore(&sample.id), Ok(Put { present: true }));
        }
        store.detach();
        for sample in &samples {
            let reader = store.open(&sample.id).unwrap();
            let mut object = vec![0; reader.bytes() as usize];
            reader.read_at(&mut object, 0).unwrap();
            assert_eq!(object, [&sample.head[..], &sample.data].concat());
        }
    }
}

#[test]
fn damage_in_a_journal_is_seen() {
    let vault = Vault::from_kek(&[7; 32]);
    let directory = Directory::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let samples = samples(&vault);
    write_journal(&directory, &vault, &samples);
    let path = directory.path().join("j");
    let places = places(&samples);
    let mut buffer = vec![0; (4 << 20) + (32 << 10)];
    for sample in &samples {
        let place = places[&sample.id];
        for at in [place.offset, place.offset + place.bytes / 2, place.offset + place.bytes - 1] {
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let store = open(&directory, "");
            store.attach(&path, places.clone()).unwrap();
            let verified = store.verify(&vault, &sample.id, &mut buffer);
            assert_eq!(verified, Err(ReadError::Damaged), "byte {at}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
    let store = open(&directory, "");
    store.attach(&path, HashMap::from([(samples[0].id, places[&samples[1].id])])).unwrap();
    let exchanged = store.verify(&vault, &samples[0].id, &mut buffer);
    assert_eq!(exchanged, Err(ReadError::Damaged), "another chunk is not this one");
    let missing = store.verify(&vault, &samples[1].id, &mut buffer);
    assert_eq!(missing, Err(ReadError::Errno(libc::ENOENT)));
}

#[test]
fn a_journal_that_is_discarded_leaves_nothing() {
    let vault = Vault::from_kek(&[7; 32]);
    let directory = Directory::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let sample = Sample::new(&vault, 100, 0);
    let store = open(&directory, "put-errno=5");
    let part = directory.path().join("j.part");
    store.begin(&part, HEADER).unwrap();
    assert_eq!(store.put(&sample.id, &sample.object()), Ok(Put { present: false }));
    store.discard();
    assert!(!part.exists());
    assert_eq!(store.put(&sample.id, &sample.object()), Err(libc::EIO));
    assert_eq!(store.has(&sample.id), Ok(false));
}
