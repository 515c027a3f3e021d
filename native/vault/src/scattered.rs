//! AES-256-GCM of a message that lies in several runs of memory, each worked on where it is.
//!
//! `ring` takes a message in one piece only. This composes the same function from counter mode and
//! GHASH, which both go on where the last run ended: same key, nonce, associated data and bytes,
//! same ciphertext and tag. It is slower than `ring`, and meant for the few segments of a stream
//! that no one piece holds.
use crate::{Damaged, TAG_BYTES};
use aes::Aes256;
use ctr::CtrCore;
use ctr::cipher::{
    Array, BlockCipherEncrypt as _, InnerIvInit as _, KeyInit as _, StreamCipher as _,
    StreamCipherCoreWrapper,
};
use ctr::flavors::Ctr32BE;
use ghash::GHash;
use ghash::universal_hash::UniversalHash as _;
use zeroize::Zeroize as _;

/// Counter mode as GCM has it: the last 32 bits of a block count.
type Stream<'a> = StreamCipherCoreWrapper<CtrCore<&'a Aes256, Ctr32BE>>;

const BLOCK_BYTES: usize = 16;
/// Work per step in bytes: what was just enciphered is hashed while it is in the nearest cache.
const STEP_BYTES: usize = 4096;

/// One key, ready for messages; wiped when it goes.
pub(crate) struct Scattered {
    aes: Aes256,
    /// The hash keyed, with nothing in it: copied for each message.
    hash: GHash,
}

impl Scattered {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let aes = Aes256::new(&Array(*key));
        let mut subkey = Array([0; BLOCK_BYTES]);
        aes.encrypt_block(&mut subkey);
        let hash = GHash::new(&subkey);
        subkey.zeroize();
        Self { aes, hash }
    }

    /// Begin a message. Its runs must then come in order, all through [`Message::seal`] or all
    /// through [`Message::open`].
    pub(crate) fn message(&self, nonce: &[u8; 12], aad: &[u8]) -> Message<'_> {
        // The counter starts at 1: that block masks the tag, and the message's first is the next.
        let mut counter = [0; BLOCK_BYTES];
        counter[..nonce.len()].copy_from_slice(nonce);
        counter[BLOCK_BYTES - 1] = 1;
        let core = CtrCore::inner_iv_init(&self.aes, &Array(counter));
        let mut stream: Stream<'_> = StreamCipherCoreWrapper::from_core(core);
        let mut mask = [0; TAG_BYTES];
        stream.apply_keystream(&mut mask);
        let mut hash = self.hash.clone();
        hash.update_padded(aad);
        Message {
            stream,
            hash,
            mask,
            partial: [0; BLOCK_BYTES],
            filled: 0,
            aad_bytes: aad.len(),
            bytes: 0,
        }
    }
}

/// A message on its way.
pub(crate) struct Message<'a> {
    stream: Stream<'a>,
    hash: GHash,
    mask: [u8; TAG_BYTES],
    /// The first `filled` bytes of a block of ciphertext that the next run completes.
    partial: [u8; BLOCK_BYTES],
    filled: usize,
    aad_bytes: usize,
    bytes: usize,
}

impl Message<'_> {
    /// Make the next run ciphertext.
    pub(crate) fn seal(&mut self, run: &mut [u8]) {
        for step in run.chunks_mut(STEP_BYTES) {
            self.stream.apply_keystream(step);
            self.absorb(step);
        }
    }

    /// Make the next run plaintext; it may be used only after [`Message::verify`].
    pub(crate) fn open(&mut self, run: &mut [u8]) {
        for step in run.chunks_mut(STEP_BYTES) {
            self.absorb(step);
            self.stream.apply_keystream(step);
        }
    }

    /// Hash ciphertext, in whole blocks; what is left waits for the next run.
    fn absorb(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        if self.filled > 0 {
            let taken = bytes.len().min(BLOCK_BYTES - self.filled);
            let (now, rest) = bytes.split_at(taken);
            self.partial[self.filled..][..taken].copy_from_slice(now);
            self.filled += taken;
            bytes = rest;
            if self.filled < BLOCK_BYTES {
                return;
            }
            self.hash.update(&[Array(self.partial)]);
        }
        let (blocks, rest) = Array::slice_as_chunks(bytes);
        self.hash.update(blocks);
        self.partial[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
    }

    /// The hash of all, with the lengths behind it; the mask is what it still lacks of a tag.
    fn close(mut self) -> (GHash, [u8; TAG_BYTES]) {
        self.hash.update_padded(&self.partial[..self.filled]);
        let mut lengths = [0; BLOCK_BYTES];
        lengths[..8].copy_from_slice(&(self.aad_bytes as u64 * 8).to_be_bytes());
        lengths[8..].copy_from_slice(&(self.bytes as u64 * 8).to_be_bytes());
        self.hash.update(&[Array(lengths)]);
        (self.hash, self.mask)
    }

    /// The tag of a message that was sealed.
    pub(crate) fn tag(self) -> [u8; TAG_BYTES] {
        let (hash, mut tag) = self.close();
        for (byte, sum) in tag.iter_mut().zip(hash.finalize()) {
            *byte ^= sum;
        }
        tag
    }

    /// Whether a message that was opened is the one that the tag was made for; in constant time.
    pub(crate) fn verify(self, tag: &[u8; TAG_BYTES]) -> Result<(), Damaged> {
        let (hash, mut sum) = self.close();
        for (byte, expected) in sum.iter_mut().zip(tag) {
            *byte ^= expected;
        }
        hash.verify(&Array(sum)).map_err(|_| Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    /// What `ring` makes of the message: ciphertext and tag.
    fn oracle(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut data = plain.to_vec();
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut data).unwrap();
        (data, tag.as_ref().to_vec())
    }

    /// The bytes, in runs that end at the cuts.
    fn runs<'a>(mut bytes: &'a mut [u8], cuts: &[usize]) -> Vec<&'a mut [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut runs, mut from) = (Vec::new(), 0);
        for cut in cuts {
            let (run, rest) = bytes.split_at_mut(cut - from);
            runs.push(run);
            (bytes, from) = (rest, cut);
        }
        runs.push(bytes);
        runs
    }

    fn unhex(digits: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(pair).collect()
    }

    /// Test case 16 of the specification of GCM (`McGrew` and Viega), at every pair of cuts.
    #[test]
    fn the_specification_s_own_case_comes_out_wherever_it_is_cut() {
        let half = "feffe9928665731c6d6a8f9467308308";
        let key: [u8; 32] = unhex(&half.repeat(2)).try_into().unwrap();
        let nonce: [u8; 12] = unhex("cafebabefacedbaddecaf888").try_into().unwrap();
        let aad = unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = unhex(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        ));
        let sealed = unhex(concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        ));
        let tag: [u8; 16] = unhex("76fc6ece0f4e1768cddf8853bb2d551b").try_into().unwrap();
        let scattered = Scattered::new(&key);
        for first in 0..=plain.len() {
            for second in first..=plain.len() {
                let mut data = plain.clone();
                let mut message = scattered.message(&nonce, &aad);
                for run in runs(&mut data, &[first, second]) {
                    message.seal(run);
                }
                assert_eq!((message.tag(), &data), (tag, &sealed), "cut at {first} and {second}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_message_comes_out_as_from_ring_and_opens_again(
            key in any::<[u8; 32]>(),
            nonce in any::<[u8; 12]>(),
            aad in prop::collection::vec(any::<u8>(), 0..50),
            plain in prop::collection::vec(any::<u8>(), 0..3 * STEP_BYTES),
            seal_cuts in prop::collection::vec(any::<usize>(), 0..20),
            open_cuts in prop::collection::vec(any::<usize>(), 0..20),
            flip in any::<usize>(),
        ) {
            let (sealed, expected_tag) = oracle(&key, nonce, &aad, &plain);
            let scattered = Scattered::new(&key);
            let mut data = plain.clone();
            let mut message = scattered.message(&nonce, &aad);
            for run in runs(&mut data, &seal_cuts) {
                message.seal(run);
            }
            let tag = message.tag();
            prop_assert!(data == sealed);
            prop_assert_eq!(tag.as_slice(), expected_tag.as_slice());

            let mut message = scattered.message(&nonce, &aad);
            for run in runs(&mut data, &open_cuts) {
                message.open(run);
            }
            prop_assert_eq!(message.verify(&tag), Ok(()));
            prop_assert!(data == plain);

            // One bit of ciphertext or tag is another: not authentic.
            let (mut damaged, mut damaged_tag) = (sealed, tag);
            let bit = flip % ((damaged.len() + TAG_BYTES) * 8);
            match damaged.get_mut(bit / 8) {
                Some(byte) => *byte ^= 1 << (bit % 8),
                None => damaged_tag[bit / 8 - plain.len()] ^= 1 << (bit % 8),
            }
            let mut message = scattered.message(&nonce, &aad);
            for run in runs(&mut damaged, &open_cuts) {
                message.open(run);
            }
            prop_assert_eq!(message.verify(&damaged_tag), Err(Damaged));
        }
    }
}
