//! A look at the file of a tree, page by page, before LMDB follows what is in it.
use crate::failed;
use napi::Result;
use napi::bindgen_prelude::{Buffer, Uint8Array};
use napi_derive::napi;
use std::path::Path;

/// Records that are handed on at once, in bytes.
const BLOCK_BYTES: usize = 1 << 20;

/// Something that is wrong with a page.
#[napi(object)]
#[derive(Debug)]
pub struct PageFlaw {
    /// The page's number.
    pub page: f64,
    /// What is wrong, as a sentence about the page.
    pub what: String,
}

/// What a survey of a file found.
#[napi(object)]
#[derive(Debug)]
pub struct PageSurvey {
    /// All flaws; the first of them are named.
    pub flawed: f64,
    /// The first flaws.
    pub flaws: Vec<PageFlaw>,
    /// The transaction whose state was read, 0 where there is none.
    pub transaction: f64,
    /// Records that were met.
    pub records: f64,
}

/// Set room aside for the first `bytes` of an open file, which does not become longer. 0 or an errno; EOPNOTSUPP where
/// the file system cannot.
#[napi]
pub fn reserve_space(file: i32, bytes: f64) -> i32 {
    // SAFETY: a system call on a descriptor that the caller has open; no memory is involved.
    let rc = unsafe { libc::fallocate(file, libc::FALLOC_FL_KEEP_SIZE, 0, bytes as i64) };
    if rc == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
}

/// Look at every page that is in use.
#[napi]
pub fn survey_pages(path: String, metas: Option<Uint8Array>) -> Result<PageSurvey> {
    read(&path, metas.as_deref(), &mut |_, _| {})
}

/// Every record that can still be read, in blocks: bytes of the key u16, bytes of the value u32, key, value. A key may
/// come twice; the first is the newer one. Memory: all records.
#[napi]
pub fn salvage_pages(path: String, metas: Option<Uint8Array>) -> Result<Vec<Buffer>> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    read(&path, metas.as_deref(), &mut |key, value| {
        let bytes = 6 + key.len() + value.len();
        if blocks.last().is_none_or(|block| block.len() + bytes > BLOCK_BYTES) {
            blocks.push(Vec::with_capacity(BLOCK_BYTES.max(bytes)));
        }
        if let Some(block) = blocks.last_mut() {
            block.extend_from_slice(&(key.len() as u16).to_le_bytes());
            block.extend_from_slice(&(value.len() as u32).to_le_bytes());
            block.extend_from_slice(key);
            block.extend_from_slice(value);
        }
    })?;
    Ok(blocks.into_iter().map(Buffer::from).collect())
}

fn read(
    path: &str,
    metas: Option<&[u8]>,
    record: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<PageSurvey> {
    let found = millrace_pages::survey_and_read(Path::new(path), metas, record)
        .map_err(|error| failed(format!("{path}: {error}")))?;
    let named = |flaw: millrace_pages::Flaw| PageFlaw {
        page: flaw.page as f64,
        what: flaw.what.to_owned(),
    };
    Ok(PageSurvey {
        flawed: found.flawed as f64,
        flaws: found.flaws.into_iter().map(named).collect(),
        transaction: found.transaction as f64,
        records: found.records as f64,
    })
}
