//! The contract of a store, kept by a directory on a disk and on a tmpfs.
mod support;

use millrace_store::{ChunkStore, DirectoryStore, Put, faulty};
use millrace_vault::{ChunkId, HeadBuf, RawPiece, Vault};
use std::collections::BTreeMap;
use std::io::{IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;
use support::{Directory, Sample, everywhere};

fn vault() -> Vault {
    Vault::from_kek(&[7; 32])
}

/// What a store holds under an id.
fn content(store: &dyn ChunkStore, id: &ChunkId) -> Vec<u8> {
    let reader = store.open(id).unwrap();
    let mut object = vec![0; reader.bytes() as usize];
    reader.read_at(&mut object, 0).unwrap();
    object
}

fn path_of(root: &Path, id: &ChunkId) -> PathBuf {
    let hex = id.hex();
    root.join("chunks").join(&hex[..2]).join(&hex[2..])
}

fn leftovers(root: &Path) -> usize {
    std::fs::read_dir(root.join("tmp")).unwrap().count()
}

#[test]
fn objects_come_back_and_are_stored_once() {
    let vault = vault();
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        for bytes in [1, 5000, 65536, (1 << 20) + 1, 4 << 20] {
            let sample = Sample::new(&vault, bytes, 0);
            assert_ne!(sample.data, sample.plain);
            assert_eq!(store.has(&sample.id), Ok(false));
            assert_eq!(store.open(&sample.id).err(), Some(libc::ENOENT));
            assert_eq!(store.put(&sample.id, &sample.object()), Ok(Put { present: false }));
            assert_eq!(store.put(&sample.id, &sample.object()), Ok(Put { present: true }));
            assert_eq!(store.has(&sample.id), Ok(true));
            assert_eq!(store.sync(), Ok(()));
            assert_eq!(content(&store, &sample.id), [&sample.head[..], &sample.data].concat());
            assert!(path_of(directory.path(), &sample.id).is_file());
            let reader = store.open(&sample.id).unwrap();
            assert_eq!(reader.read_at(&mut [0; 2], reader.bytes() - 1), Err(libc::EIO));
        }
        assert_eq!(leftovers(directory.path()), 0);
    }
}

/// Many pieces, more than one call takes, and some of them empty.
#[test]
fn an_object_may_lie_in_thousands_of_pieces() {
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let bytes: Vec<u8> = (0..100_000usize).map(|i| (i % 251) as u8).collect();
        let mut pieces: Vec<IoSlice<'_>> = Vec::new();
        for piece in bytes.chunks(37) {
            pieces.extend([IoSlice::new(&[]), IoSlice::new(piece)]);
        }
        let id = ChunkId([3; 32]);
        assert_eq!(store.put(&id, &pieces), Ok(Put { present: false }));
        assert_eq!(content(&store, &id), bytes);
    }
}

/// Page aligned in memory and long enough to go past the page cache.
#[test]
fn aligned_objects_come_back_too() {
    let vault = vault();
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let (bytes, mut memory) = (4 << 20, vec![0u8; (4 << 20) + 4096]);
        let skip = memory.as_ptr().align_offset(4096);
        let data = &mut memory[skip..skip + bytes];
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = (i ^ (i >> 9)) as u8;
        }
        let id = vault.chunk_id_of([&*data]);
        let mut head = HeadBuf::new();
        let piece = RawPiece { ptr: data.as_mut_ptr(), len: bytes };
        // SAFETY: the buffer is ours alone.
        unsafe { vault.seal_pieces(&id, &[piece], &mut head) };
        assert_eq!(
            store.put(&id, &[IoSlice::new(head.bytes()), IoSlice::new(data)]),
            Ok(Put { present: false })
        );
        assert_eq!(content(&store, &id), [head.bytes(), data].concat());
    }
}

#[test]
fn of_many_puts_of_one_id_one_wins() {
    let vault = vault();
    let sample = Sample::new(&vault, 300_000, 1);
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let start = Barrier::new(8);
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let put = store.put(&sample.id, &sample.object()).unwrap();
                        store.sync().unwrap();
                        usize::from(!put.present)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
        assert_eq!(leftovers(directory.path()), 0);
        assert_eq!(content(&store, &sample.id), [&sample.head[..], &sample.data].concat());
    }
}

#[test]
fn the_list_tells_every_object_and_nothing_else() {
    let vault = vault();
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        let mut expected = BTreeMap::new();
        for seed in 0..20 {
            let sample = Sample::new(&vault, 100 + usize::from(seed), seed);
            store.put(&sample.id, &sample.object()).unwrap();
            expected.insert(sample.id, (sample.head.len() + sample.data.len()) as u64);
        }
        std::fs::write(directory.path().join("chunks/00/not-an-object"), b"x").unwrap();
        let gone = *expected.keys().next().unwrap();
        assert_eq!(store.delete(&gone), Ok(()));
        assert_eq!(store.delete(&gone), Ok(()));
        assert_eq!(store.has(&gone), Ok(false));
        expected.remove(&gone);

        let mut found = BTreeMap::new();
        store.list(&mut |object| found.insert(object.id, object.bytes).is_none()).unwrap();
        assert_eq!(found, expected);
        let mut visits = 0;
        let mut stop = |_| {
            visits += 1;
            visits < 3
        };
        store.list(&mut stop).unwrap();
        assert_eq!(visits, 3);
    }
}

#[test]
fn a_store_is_one_process_only_and_forgets_what_was_half_done() {
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        assert_eq!(DirectoryStore::open(directory.path()).err(), Some(libc::EBUSY));
        drop(store);
        std::fs::write(directory.path().join("tmp/1-0"), b"half an object").unwrap();
        let store = DirectoryStore::open(directory.path()).unwrap();
        assert_eq!(leftovers(directory.path()), 0);
        let space = store.space().unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
    }
}

#[test]
fn memory_needs_no_barrier_and_a_disk_does() {
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        assert_eq!(store.needs_sync(), !directory.path().starts_with("/dev/shm"));
    }
}

/// A tmpfs of a mebibyte, if this process may mount one.
struct Tiny(Directory);

impl Tiny {
    fn mount() -> Option<Self> {
        let directory = Directory::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,nr_inodes=1024", "tmpfs"])
            .arg(directory.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then(|| Self(directory))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_store_says_so_and_keeps_nothing_half() {
    let Some(tiny) = Tiny::mount() else {
        let _ = writeln!(std::io::stderr(), "skipped: a tmpfs can only be mounted by root");
        return;
    };
    let vault = vault();
    let store = DirectoryStore::open(tiny.0.path()).unwrap();
    let large = Sample::new(&vault, 2 << 20, 0);
    assert_eq!(store.put(&large.id, &large.object()), Err(libc::ENOSPC));
    assert_eq!(store.has(&large.id), Ok(false));
    assert_eq!(leftovers(tiny.0.path()), 0);
    // What failed gave its room back.
    let small = Sample::new(&vault, 600 << 10, 1);
    assert_eq!(store.put(&small.id, &small.object()), Ok(Put { present: false }));
    assert_eq!(store.put(&large.id, &large.object()), Err(libc::ENOSPC));
    assert_eq!(content(&store, &small.id), [&small.head[..], &small.data].concat());
    drop(store);
}

#[test]
fn faults_hit_the_puts_that_they_name() {
    let vault = vault();
    let directory = Directory::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let inner: Arc<dyn ChunkStore> = Arc::new(DirectoryStore::open(directory.path()).unwrap());
    let put = |store: &dyn ChunkStore, seed: u8| {
        let sample = Sample::new(&vault, 10, seed);
        store.put(&sample.id, &sample.object()).map(|put| put.present)
    };
    let store = faulty(inner.clone(), "put-errno=28,after=2,count=3");
    let results: Vec<_> = (0..7).map(|seed| put(store.as_ref(), seed)).collect();
    let no_space = Err(libc::ENOSPC);
    assert_eq!(results, [Ok(false), Ok(false), no_space, no_space, no_space, Ok(false), Ok(false)]);

    // A control file switches them on and off, and counting starts anew with each text.
    let control = directory.path().join("control");
    let store = faulty(inner, &format!("file={}", control.display()));
    assert_eq!(put(store.as_ref(), 10), Ok(false));
    std::fs::write(&control, "put-errno=5\ncount=1\n").unwrap();
    assert_eq!(put(store.as_ref(), 11), Err(libc::EIO));
    assert_eq!(put(store.as_ref(), 11), Ok(false));
    std::fs::write(&control, "put-errno=5,count=1,").unwrap();
    assert_eq!(put(store.as_ref(), 12), Err(libc::EIO));
    std::fs::remove_file(&control).unwrap();
    assert_eq!(put(store.as_ref(), 12), Ok(false));
}

#[test]
fn a_pipe_holds_each_put_until_it_is_let_go() {
    let vault = vault();
    let directory = Directory::below(Path::new(env!("CARGO_TARGET_TMPDIR")));
    let fifo = directory.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let inner: Arc<dyn ChunkStore> = Arc::new(DirectoryStore::open(directory.path()).unwrap());
    let store = faulty(inner, &format!("fifo={}", fifo.display()));
    let (done, finished) = mpsc::channel();
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (store, done, vault) = (&store, done.clone(), &vault);
            scope.spawn(move || {
                let sample = Sample::new(vault, 10, seed);
                done.send(store.put(&sample.id, &sample.object())).unwrap();
            });
        }
        for _ in 0..2 {
            assert_eq!(
                finished.recv_timeout(Duration::from_millis(50)),
                Err(mpsc::RecvTimeoutError::Timeout)
            );
            std::fs::OpenOptions::new().write(true).open(&fifo).unwrap().write_all(b"x").unwrap();
            assert_eq!(finished.recv(), Ok(Ok(Put { present: false })));
        }
    });
}
