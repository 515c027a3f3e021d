//! Any one bit of a chunk object changed, and it does not open: every bit there is.
use millrace_fuzz::sealed;
use millrace_vault::Vault;

#[test]
fn a_chunk_with_any_one_bit_changed_does_not_open() {
    let vault = Vault::from_kek(&[7; 32]);
    // One byte, one segment, two segments.
    for plain_bytes in [1, 100, 16_384 + 9] {
        let plain: Vec<u8> = (0..plain_bytes).map(|i| (i * 31) as u8).collect();
        let (id, mut object) = sealed(&vault, &plain);
        assert_eq!(object.read(&vault, &id, plain_bytes).as_deref(), Ok(&plain[..]));
        for bit in 0..object.0.len() * 8 {
            object.0[bit / 8] ^= 1 << (bit % 8);
            assert!(object.read(&vault, &id, plain_bytes).is_err(), "{plain_bytes}: bit {bit}");
            object.0[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(object.read(&vault, &id, plain_bytes).as_deref(), Ok(&plain[..]));
    }
}
