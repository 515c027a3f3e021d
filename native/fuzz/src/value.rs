//! Sealed values: what was not sealed under this key does not open, whatever it is.
use crate::guard::{at_the_end, at_the_start};
use crate::records::{Input, counted};
use millrace_vault::{Damaged, VALUE_OVERHEAD_BYTES, Vault};
use std::cell::OnceCell;

thread_local! {
    static VAULT: OnceCell<Vault> = const { OnceCell::new() };
}

/// Input: the place of a bit, u16; a key, with its length; then what is opened, and sealed.
pub(crate) fn run(data: &[u8]) {
    VAULT.with(|vault| check(vault.get_or_init(|| Vault::from_kek(&[9; 32])), data));
}

fn check(vault: &Vault, data: &[u8]) {
    let mut input = Input(data);
    let Some(bit) = input.short() else { return };
    let Some(key_bytes) = input.short() else { return };
    let (key, rest) = (input.take(key_bytes), input.0);
    let room = vec![0; rest.len().saturating_sub(VALUE_OVERHEAD_BYTES)];
    let opened =
        at_the_end(rest, |sealed| at_the_end(&room, |out| vault.open_value_into(key, sealed, out)));
    assert_eq!(opened, Err(Damaged), "what nobody sealed was opened");

    let out = vec![0; rest.len() + VALUE_OVERHEAD_BYTES];
    let sealed = at_the_end(&out, |out| {
        vault.seal_value_into(key, rest, out).map(|bytes| out[..bytes].to_vec())
    });
    let Some(sealed) = sealed else {
        assert!(key.len() > 511, "a value of {} bytes was not sealed", rest.len());
        return;
    };
    assert_eq!(open(vault, key, &sealed, rest.len()).as_deref(), Ok(rest));
    let mut changed = sealed.clone();
    changed[bit / 8 % sealed.len()] ^= 1 << (bit % 8);
    assert_eq!(open(vault, key, &changed, rest.len()), Err(Damaged));
    assert_eq!(open(vault, &[key, b"x"].concat(), &sealed, rest.len()), Err(Damaged));
    assert_eq!(open(vault, key, &sealed[..sealed.len() - 1], rest.len()), Err(Damaged));
}

fn open(vault: &Vault, key: &[u8], sealed: &[u8], room: usize) -> Result<Vec<u8>, Damaged> {
    at_the_start(sealed, |sealed| {
        at_the_end(&vec![0; room], |out| {
            vault.open_value_into(key, sealed, out).map(|bytes| out[..bytes].to_vec())
        })
    })
}

pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let vault = Vault::from_kek(&[9; 32]);
    let input =
        |bit: u16, key: &[u8], rest: &[u8]| [&bit.to_le_bytes()[..], &counted(key), rest].concat();
    let mut sealed = vec![0; 20 + VALUE_OVERHEAD_BYTES];
    vault.seal_value_into(b"another key", &[7; 20], &mut sealed);
    vec![
        ("empty", input(0, b"", b"")),
        ("sealed-elsewhere", input(300, b"a key", &sealed)),
        ("longest-key", input(77, &[5; 511], &[1; 300])),
        ("key-too-long", input(77, &[5; 512], &[1; 10])),
    ]
}
