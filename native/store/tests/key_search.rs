//! A search finds a key wherever it stands and however it is written.
use millrace_store::{FoundKey, KeySearch, SearchProgress};
use std::path::{Path, PathBuf};

/// A directory that goes with its value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("millrace-key-search-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const KEY: [u8; 32] = *b"\x00\x9fone key that is looked for!!\xfe\x01";

fn search(directory: &Directory) -> Vec<FoundKey> {
    let mut search = KeySearch::default();
    search.add("another", &[0x77; 32]);
    search.add("this", &KEY);
    assert_eq!(search.keys(), 2);
    search.run(directory.path(), 2, &SearchProgress::default()).unwrap().found
}

/// The key in hexadecimal digits.
const HEX: &str = "009f6f6e65206b65792074686174206973206c6f6f6b656420666f722121fe01";
/// What `base64` prints for the key.
const BASE64: &str = "AJ9vbmUga2V5IHRoYXQgaXMgbG9va2VkIGZvciEh/gE=";

#[test]
fn a_key_is_found_in_every_spelling_at_every_place() {
    let directory = Directory::new("spellings");
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    let file = directory.path().join("sub/file");
    let texts: [Vec<u8>; 7] = [
        KEY.to_vec(),
        KEY[..16].to_vec(),
        KEY[16..].to_vec(),
        HEX.into(),
        HEX.to_uppercase().into_bytes(),
        BASE64.into(),
        BASE64.replace('/', "_").into(),
    ];
    let expected = [FoundKey { name: "this".into(), path: PathBuf::from("sub/file") }];
    // Around the border of two reads.
    let step = 1 << 20;
    for text in &texts {
        for at in [0, 1, 5000, step - 1, step, step + 30, step + 60, 2 * step - 7, 2 * step + 90] {
            let mut bytes = vec![b'-'; 3 * step];
            bytes[at..at + text.len()].copy_from_slice(text);
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(search(&directory), expected, "{:?} at {at}", text.escape_ascii());
        }
        std::fs::write(&file, text).unwrap();
        assert_eq!(search(&directory), expected);
    }
    for less in [&KEY[1..16], &KEY[17..], &HEX.as_bytes()[..31]] {
        std::fs::write(&file, less).unwrap();
        assert_eq!(search(&directory), []);
    }
}

#[test]
fn a_key_is_found_in_a_name_and_everything_that_is_read_is_counted() {
    let directory = Directory::new("names");
    std::fs::write(directory.path().join("a"), vec![1; 3_000_000]).unwrap();
    std::fs::write(directory.path().join(HEX), "").unwrap();
    let mut search = KeySearch::default();
    search.add("this", &KEY);
    let found = search.run(directory.path(), 1, &SearchProgress::default()).unwrap();
    assert_eq!((found.files, found.bytes), (2, 3_000_000));
    assert_eq!(found.found, [FoundKey { name: "this".into(), path: HEX.into() }]);
}

#[test]
fn what_cannot_be_read_was_not_searched() {
    let directory = Directory::new("missing");
    let mut search = KeySearch::default();
    search.add("this", &KEY);
    let missing = directory.path().join("missing");
    assert!(search.run(&missing, 1, &SearchProgress::default()).is_err());
}
