//! Whether a record lies under the key that it was stored under.
//!
//! What leads to a record is whole where pages fit together, and what is in it tells itself; between the two is its key.
//! One flipped bit of it, and nobody finds the record, as if there had never been one.
use millrace_vault::may_belong;

/// The key of the one record that is not sealed: up to where the write-ahead log is in the file.
const WRITTEN_POSITION_KEY: &[u8] = b"\0log";
/// Bytes of its value, of which the last are a CRC-32 of the key and the others.
const POSITION_BYTES: usize = 12;
/// The value that versions before had, without a check.
const UNCHECKED_POSITION_BYTES: usize = 8;
/// Bytes at the end of every value that hold a check.
const CHECK_BYTES: usize = 4;

/// Whether a record can be what was stored under this key.
pub(crate) fn is_right(key: &[u8], value: &[u8]) -> bool {
    if key == WRITTEN_POSITION_KEY { is_position(key, value) } else { may_belong(key, value) }
}

fn is_position(key: &[u8], value: &[u8]) -> bool {
    match value.split_last_chunk() {
        _ if value.len() == UNCHECKED_POSITION_BYTES => true,
        Some((position, check)) if value.len() == POSITION_BYTES => {
            let mut crc = crc32fast::Hasher::new();
            crc.update(key);
            crc.update(position);
            crc.finalize().to_le_bytes() == *check
        }
        _ => false,
    }
}

/// The record that one flipped bit has made this one of, if that is what has happened to it. A CRC tells all single
/// bits of so few bytes apart, so there are no two such records.
pub(crate) fn put_right(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut key, mut value) = (key.to_vec(), value.to_vec());
    for bit in 0..key.len() * 8 {
        flip(&mut key, bit);
        if is_right(&key, &value) {
            return Some((key, value));
        }
        flip(&mut key, bit);
    }
    // Of a sealed value only the check has to do with the key.
    let checked = if value.len() == POSITION_BYTES { POSITION_BYTES } else { CHECK_BYTES };
    for bit in value.len().saturating_sub(checked) * 8..value.len() * 8 {
        flip(&mut value, bit);
        if is_right(&key, &value) {
            return Some((key, value));
        }
        flip(&mut value, bit);
    }
    None
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[cfg(test)]
mod tests {
    use super::{UNCHECKED_POSITION_BYTES, WRITTEN_POSITION_KEY, flip, is_right, put_right};
    use millrace_vault::{VALUE_OVERHEAD_BYTES, Vault};

    fn sealed(key: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 20 + VALUE_OVERHEAD_BYTES];
        let sealed = Vault::from_kek(&[7; 32]).seal_value_into(key, &[3; 20], &mut out);
        assert_eq!(sealed, Some(out.len()));
        out
    }

    fn position() -> Vec<u8> {
        let mut value = vec![2, 0, 0, 0, 9, 1, 0, 0];
        let crc = crc32fast::hash(&[WRITTEN_POSITION_KEY, &value[..]].concat());
        value.extend_from_slice(&crc.to_le_bytes());
        value
    }

    #[test]
    fn every_bit_of_a_key_and_of_its_check_is_noticed_and_put_right() {
        let names: [&[u8]; 3] =
            [b"i\0\0\0\0\0\0\0\x05", b"d\0\0\0\0\0\0\0\x01abcdefghijklmnop", b"s"];
        let mut records: Vec<_> =
            names.into_iter().map(|key| (key.to_vec(), sealed(key))).collect();
        records.push((WRITTEN_POSITION_KEY.to_vec(), position()));
        for (key, value) in records {
            assert!(is_right(&key, &value));
            let checked = if key == WRITTEN_POSITION_KEY { value.len() } else { 4 };
            for bit in 0..8 * key.len() {
                let mut flipped = key.clone();
                flip(&mut flipped, bit);
                assert!(!is_right(&flipped, &value), "{key:x?}, bit {bit}");
                assert_eq!(put_right(&flipped, &value), Some((key.clone(), value.clone())));
            }
            for bit in 8 * (value.len() - checked)..8 * value.len() {
                let mut flipped = value.clone();
                flip(&mut flipped, bit);
                assert!(!is_right(&key, &flipped), "{key:x?}, bit {bit} of the value");
                assert_eq!(put_right(&key, &flipped), Some((key.clone(), value.clone())));
            }
        }
    }

    #[test]
    fn what_more_than_one_bit_has_changed_is_not_guessed() {
        assert!(!is_right(b"key c", &sealed(b"key b, longer")));
        assert_eq!(put_right(b"key c", &sealed(b"key b, longer")), None);
        assert_eq!(put_right(b"key", b""), None);
        assert_eq!(put_right(b"key", b"\x02"), None);
    }

    #[test]
    fn values_of_versions_before_have_no_check() {
        let mut value = sealed(b"key");
        value.truncate(value.len() - 4);
        value[0] = 1;
        assert!(is_right(b"key", &value) && is_right(b"kez", &value));
        assert!(is_right(WRITTEN_POSITION_KEY, &[0; UNCHECKED_POSITION_BYTES]));
    }
}
