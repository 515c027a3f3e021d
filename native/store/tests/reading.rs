//! Reading ranges through the cache of handles, of sound and of damaged objects.
mod support;

use millrace_layout::{REGION_BYTES, SEGMENT_BYTES};
use millrace_store::{
    ChunkReader, ChunkStore, DirectoryStore, HandleCache, Listed, Put, ReadError, Space,
};
use millrace_vault::{ChunkId, Vault};
use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use support::{Sample, everywhere};

fn vault() -> Vault {
    Vault::from_kek(&[7; 32])
}

/// A store in memory that can be changed behind everybody's back, and counts.
#[derive(Default)]
struct MemoryStore {
    objects: Mutex<HashMap<ChunkId, Vec<u8>>>,
    opens: AtomicUsize,
    reads: Arc<AtomicUsize>,
}

struct MemoryReader(Vec<u8>, Arc<AtomicUsize>);

impl ChunkReader for MemoryReader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), i32> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let offset = offset as usize;
        let from = self.0.get(offset..offset + buffer.len()).ok_or(libc::EIO)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

impl ChunkStore for MemoryStore {
    fn put(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<Put, i32> {
        let object: Vec<u8> = object.iter().flat_map(|piece| piece.iter().copied()).collect();
        Ok(Put { present: self.objects.lock().unwrap().insert(*id, object).is_some() })
    }
    fn replace(&self, id: &ChunkId, object: &[IoSlice<'_>]) -> Result<(), i32> {
        self.put(id, object).map(|_| ())
    }
    fn has(&self, id: &ChunkId) -> Result<bool, i32> {
        Ok(self.objects.lock().unwrap().contains_key(id))
    }
    fn open(&self, id: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        self.opens.fetch_add(1, Ordering::Relaxed);
        let object = self.objects.lock().unwrap().get(id).cloned().ok_or(libc::ENOENT)?;
        Ok(Box::new(MemoryReader(object, self.reads.clone())))
    }
    fn sync(&self) -> Result<(), i32> {
        Ok(())
    }
    fn needs_sync(&self) -> bool {
        false
    }
    fn delete(&self, id: &ChunkId) -> Result<(), i32> {
        self.objects.lock().unwrap().remove(id);
        Ok(())
    }
    fn list(&self, visit: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32> {
        let modified = SystemTime::UNIX_EPOCH;
        let listed = |(id, object): (&ChunkId, &Vec<u8>)| Listed {
            id: *id,
            bytes: object.len() as u64,
            modified,
        };
        let all: Vec<Listed> = self.objects.lock().unwrap().iter().map(listed).collect();
        let _ = all.into_iter().all(visit);
        Ok(())
    }
    fn space(&self) -> Result<Space, i32> {
        Ok(Space { total_bytes: 0, free_bytes: 0 })
    }
}

/// Read a range with nothing kept from before.
fn read(
    vault: &Vault,
    store: &dyn ChunkStore,
    id: &ChunkId,
    offset: usize,
    length: usize,
) -> Result<Vec<u8>, ReadError> {
    let chunk = HandleCache::new(None).get(vault, store, id)?;
    let mut buffer = vec![0; length + 2 * SEGMENT_BYTES];
    let range = chunk.read_range(vault, offset, length, &mut buffer)?;
    Ok(buffer[range].to_vec())
}

#[test]
fn ranges_come_back_from_everywhere() {
    let vault = vault();
    for directory in everywhere() {
        let store = DirectoryStore::open(directory.path()).unwrap();
        for bytes in
            [1, 5000, 5 * SEGMENT_BYTES + 7, REGION_BYTES, REGION_BYTES + SEGMENT_BYTES + 1]
        {
            let sample = Sample::new(&vault, bytes, 0);
            store.put(&sample.id, &sample.object()).unwrap();
            for offset in [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, bytes / 2, bytes - 1] {
                for length in [1, 2, 4096, SEGMENT_BYTES, 3 * SEGMENT_BYTES, bytes] {
                    let read = read(&vault, &store, &sample.id, offset, length);
                    let expected =
                        sample.plain.get(offset..offset + length).ok_or(ReadError::Damaged);
                    assert!(
                        read.as_deref().map_err(|e| *e) == expected,
                        "{offset}+{length} of {bytes}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_range_takes_two_reads_and_the_next_one_one() {
    let (vault, store) = (vault(), MemoryStore::default());
    let sample = Sample::new(&vault, REGION_BYTES, 0);
    store.put(&sample.id, &sample.object()).unwrap();
    let (cache, mut buffer) = (HandleCache::new(None), vec![0; 3 * SEGMENT_BYTES]);
    for reads in [2, 3, 4] {
        let chunk = cache.get(&vault, &store, &sample.id).unwrap();
        let range = chunk.read_range(&vault, 100_000, 20_000, &mut buffer).unwrap();
        assert_eq!(buffer[range], sample.plain[100_000..120_000]);
        assert_eq!(store.reads.load(Ordering::Relaxed), reads);
    }
    let chunk = cache.get(&vault, &store, &sample.id).unwrap();
    assert_eq!(chunk.read_range(&vault, 0, 0, &mut buffer), Err(ReadError::Damaged));
    assert_eq!(chunk.read_range(&vault, usize::MAX, 2, &mut buffer), Err(ReadError::Damaged));
    let small = &mut buffer[..SEGMENT_BYTES];
    assert_eq!(
        chunk.read_range(&vault, 1, SEGMENT_BYTES, small),
        Err(ReadError::Errno(libc::EINVAL))
    );
}

#[test]
fn what_was_used_last_stays_open() {
    let (vault, store) = (vault(), MemoryStore::default());
    let cache = HandleCache::new(Some(32));
    // Ids of one shard, which keeps two of them.
    let mut samples =
        (0..=255).map(|seed| Sample::new(&vault, 10, seed)).filter(|s| s.id.0[31] % 16 == 0);
    let samples: Vec<Sample> = samples.by_ref().take(3).collect();
    let mut opened = |n: usize| {
        store.put(&samples[n].id, &samples[n].object()).unwrap();
        cache.get(&vault, &store, &samples[n].id).unwrap();
        store.opens.swap(0, Ordering::Relaxed)
    };
    let opens: Vec<usize> = [0, 1, 0, 1, 0, 2, 0, 1, 0].map(&mut opened).to_vec();
    assert_eq!(opens, [1, 1, 0, 0, 0, 1, 0, 1, 0]);
}

#[test]
fn every_changed_byte_of_an_object_is_noticed() {
    let (vault, store) = (vault(), MemoryStore::default());
    let sample = Sample::new(&vault, 100, 0);
    store.put(&sample.id, &sample.object()).unwrap();
    let whole = |store: &MemoryStore| read(&vault, store, &sample.id, 0, 100);
    assert_eq!(whole(&store).as_deref(), Ok(&sample.plain[..]));
    let object = store.objects.lock().unwrap()[&sample.id].clone();
    for at in 0..object.len() {
        store.objects.lock().unwrap().get_mut(&sample.id).unwrap()[at] ^= 0x40;
        let expected = match at {
            // Little-endian: the epoch that it names now.
            12..16 => ReadError::Epoch(1 ^ (0x40 << (8 * (at - 12)))),
            _ => ReadError::Damaged,
        };
        assert_eq!(whole(&store), Err(expected), "byte {at}");
        *store.objects.lock().unwrap().get_mut(&sample.id).unwrap() = object.clone();
    }
    for bytes in 0..object.len() {
        store.objects.lock().unwrap().get_mut(&sample.id).unwrap().truncate(bytes);
        assert_eq!(whole(&store), Err(ReadError::Damaged), "{bytes} bytes of it");
        *store.objects.lock().unwrap().get_mut(&sample.id).unwrap() = object.clone();
    }
    store.objects.lock().unwrap().get_mut(&sample.id).unwrap().push(0);
    assert_eq!(whole(&store), Err(ReadError::Damaged));
    store.delete(&sample.id).unwrap();
    assert_eq!(whole(&store), Err(ReadError::Errno(libc::ENOENT)));
}
