//! Chunk objects: only what was sealed for an id opens under it, and no length in one leads outside of it.
use crate::guard::at_the_end;
use crate::records::Input;
use millrace_layout::SEGMENT_BYTES;
use millrace_store::{ChunkReader, ChunkStore, HandleCache, Listed, Put, ReadError, Space};
use millrace_vault::{ChunkId, HEADER_BYTES, HeadBuf, Header, Vault};
use ring::hkdf;
use std::cell::OnceCell;
use std::io::IoSlice;

const KEK: [u8; 32] = [9; 32];
/// Bytes of the header before its check.
const FIELDS_BYTES: usize = 48;
/// The most plaintext of one input.
const PLAIN_BYTES_MAX: usize = 3 * SEGMENT_BYTES;

/// A store of one object, whatever id is asked for.
#[derive(Clone, Debug)]
pub struct Object(pub Vec<u8>);

impl ChunkReader for Object {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), i32> {
        let end = (offset as usize).checked_add(buffer.len()).ok_or(libc::EIO)?;
        buffer.copy_from_slice(self.0.get(offset as usize..end).ok_or(libc::EIO)?);
        Ok(())
    }
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
}

impl ChunkStore for Object {
    fn put(&self, _: &ChunkId, _: &[IoSlice<'_>]) -> Result<Put, i32> {
        Err(libc::EROFS)
    }
    fn replace(&self, _: &ChunkId, _: &[IoSlice<'_>]) -> Result<(), i32> {
        Err(libc::EROFS)
    }
    fn has(&self, _: &ChunkId) -> Result<bool, i32> {
        Ok(true)
    }
    fn open(&self, _: &ChunkId) -> Result<Box<dyn ChunkReader>, i32> {
        Ok(Box::new(self.clone()))
    }
    fn sync(&self) -> Result<(), i32> {
        Ok(())
    }
    fn needs_sync(&self) -> bool {
        false
    }
    fn delete(&self, _: &ChunkId) -> Result<(), i32> {
        Err(libc::EROFS)
    }
    fn list(&self, _: &mut dyn FnMut(Listed) -> bool) -> Result<(), i32> {
        Ok(())
    }
    fn space(&self) -> Result<Space, i32> {
        Ok(Space { total_bytes: 0, free_bytes: 0 })
    }
}

impl Object {
    /// The plaintext of the chunk `id`, read whole.
    ///
    /// # Errors
    /// When anything of the object is not as it was sealed.
    pub fn read(
        &self,
        vault: &Vault,
        id: &ChunkId,
        plain_bytes: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let open = HandleCache::new(Some(1)).get(vault, self, id)?;
        let room = plain_bytes.next_multiple_of(SEGMENT_BYTES);
        at_the_end(&vec![0; room], |buffer| {
            let range = open.read_range(vault, 0, plain_bytes, buffer)?;
            Ok(buffer[range].to_vec())
        })
    }
}

/// A chunk as it is stored, and its id.
#[must_use]
pub fn sealed(vault: &Vault, plain: &[u8]) -> (ChunkId, Object) {
    let mut data = plain.to_vec();
    let mut head = HeadBuf::new();
    let id = vault.seal_buffer(&mut data, &mut head);
    (id, Object([head.bytes(), &data].concat()))
}

/// The key of header checks of one chunk, derived as FORMAT.md says: what only who has the tenant's key can do.
fn header_key(id: &ChunkId) -> [u8; 32] {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"millrace v1").extract(&KEK);
    let mut chunk = [0; 32];
    let filled = prk
        .expand(&[b"millrace v1 chunk key epoch 1"], Length)
        .and_then(|okm| okm.fill(&mut chunk));
    assert!(filled.is_ok());
    let key = *blake3::keyed_hash(&chunk, &id.0).as_bytes();
    blake3::derive_key("millrace v1 chunk header", &key)
}

/// Give the fields at the front of an object the check that belongs to them.
fn forge(object: &mut [u8], id: &ChunkId) {
    let Some(header) = object.get_mut(..HEADER_BYTES) else { return };
    let mut hasher = blake3::Hasher::new_keyed(&header_key(id));
    hasher.update(&header[..FIELDS_BYTES]);
    hasher.update(&id.0);
    header[FIELDS_BYTES..].copy_from_slice(&hasher.finalize().as_bytes()[..16]);
}

thread_local! {
    static VAULT: OnceCell<Vault> = const { OnceCell::new() };
}

/// Input: what to do, u8; then an object, or (2) plaintext behind the place of a bit, u32.
pub(crate) fn run(data: &[u8]) {
    VAULT.with(|vault| {
        let vault = vault.get_or_init(|| Vault::from_kek(&KEK));
        let mut input = Input(data);
        match input.byte() {
            Some(0) => object(vault, input.0, false),
            Some(1) => object(vault, input.0, true),
            Some(_) => flipped(vault, input.0),
            None => {}
        }
    });
}

/// Bytes that claim to be the object of a chunk; with `forged`, by somebody who has the key of its header.
fn object(vault: &Vault, bytes: &[u8], forged: bool) {
    let id = ChunkId([3; 32]);
    let mut bytes = bytes.to_vec();
    if forged {
        forge(&mut bytes, &id);
    }
    let parsed = at_the_end(&bytes, |bytes| Header::parse(bytes, vault, &id));
    assert!(forged || parsed.is_err(), "a header that nobody made was taken");
    if let Ok(header) = parsed {
        assert_eq!(header, Header::of(header.plain_bytes));
        assert!(header.tags().end <= header.data_offset);
    }
    let object = Object(bytes);
    let Ok(open) = HandleCache::new(Some(1)).get(vault, &object, &id) else { return };
    let Ok(header) = parsed else { panic!("opened without a header") };
    assert_eq!(header.object_bytes(), object.0.len());
    // No tag can be right: the segments have no key that is known here.
    for (offset, length) in [(0, 1), (header.plain_bytes - 1, 1), (0, header.plain_bytes)] {
        for room in [0, 1, SEGMENT_BYTES, 2 * SEGMENT_BYTES] {
            let read =
                at_the_end(&vec![0; room], |buffer| open.read_range(vault, offset, length, buffer));
            assert!(read.is_err());
        }
    }
    for (offset, length) in [(0, 0), (header.plain_bytes, 1), (usize::MAX, 1), (1, usize::MAX)] {
        assert!(open.read_range(vault, offset, length, &mut [0; 16]).is_err());
    }
}

/// A chunk of ours opens; with any bit changed, or a byte more or less, it does not.
fn flipped(vault: &Vault, data: &[u8]) {
    let mut input = Input(data);
    let (Some(low), Some(high)) = (input.short(), input.short()) else { return };
    let plain = &input.0[..input.0.len().min(PLAIN_BYTES_MAX)];
    if plain.is_empty() {
        return;
    }
    let (id, object) = sealed(vault, plain);
    assert_eq!(object.read(vault, &id, plain.len()).as_deref(), Ok(plain));
    let mut changed = object.clone();
    let bit = (high << 16 | low) % (changed.0.len() * 8);
    changed.0[bit / 8] ^= 1 << (bit % 8);
    assert!(changed.read(vault, &id, plain.len()).is_err(), "bit {bit} was changed");
    changed = object.clone();
    changed.0.push(0);
    assert!(changed.read(vault, &id, plain.len()).is_err(), "a byte more");
    changed.0.truncate(object.0.len() - 1);
    assert!(changed.read(vault, &id, plain.len()).is_err(), "a byte less");
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let vault = Vault::from_kek(&KEK);
    let small = sealed(&vault, &[1; 100]).1.0;
    let segments = sealed(&vault, &vec![2; SEGMENT_BYTES + 7]).1.0;
    let with = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    vec![
        ("object", with(0, &small)),
        ("forged", with(1, &small)),
        ("forged-segments", with(1, &segments[..512])),
        ("flipped-header", with(2, &[&[200, 0, 0, 0], &[5; 100][..]].concat())),
        ("flipped-tag", with(2, &[&[10, 2, 0, 0], &[5; 100][..]].concat())),
    ]
}
