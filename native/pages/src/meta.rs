//! The two meta pages, which say where everything else begins.
use crate::page::{HEADER_BYTES, Page, kind, u16_at, u32_at, u64_at};

const MAGIC: u32 = 0xbeef_c0de;
/// Only the lower half of its word counts.
const DATA_VERSION: u32 = 2;
const PAGE_BYTES: [usize; 5] = [4096, 8192, 16_384, 32_768, 65_536];
const DEPTH_MAX: u16 = 32;
/// The database of free pages has integers as keys; the file lies in no directory of its own.
const FREE_FLAGS: u16 = 0x4008;
const MAIN_FLAGS: u16 = 0;
const DATABASE_BYTES: usize = 48;
const FREE_AT: usize = HEADER_BYTES + 24;
const MAIN_AT: usize = FREE_AT + DATABASE_BYTES;
const LAST_PAGE_AT: usize = MAIN_AT + DATABASE_BYTES;
/// Bytes of a meta page that mean something.
pub(crate) const META_BYTES: usize = LAST_PAGE_AT + 24;
/// Where an empty database has its root.
pub(crate) const NO_PAGE: u64 = u64::MAX;

/// One of the two databases of the file: free pages, and the one that programs see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Database {
    pub(crate) depth: u16,
    pub(crate) branches: u64,
    pub(crate) leaves: u64,
    pub(crate) overflow: u64,
    pub(crate) entries: u64,
    pub(crate) root: u64,
}

/// What a meta page says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) page_bytes: usize,
    pub(crate) free: Database,
    pub(crate) main: Database,
    pub(crate) last_page: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// Pages that both databases say that they have.
    pub(crate) fn used_pages(&self) -> u64 {
        let pages =
            |of: &Database| of.branches.saturating_add(of.leaves).saturating_add(of.overflow);
        pages(&self.free).saturating_add(pages(&self.main))
    }
}

/// The state that LMDB opens, and what is wrong with either meta page.
pub(crate) fn pick(
    first: &Result<Meta, &'static str>,
    second: &Result<Meta, &'static str>,
) -> Result<Meta, (u64, &'static str)> {
    let first = first.map_err(|what| (0, what))?;
    let second = second.map_err(|what| (1, what))?;
    if first.page_bytes != second.page_bytes {
        return Err((1, "its pages are of another size than those of page 0"));
    }
    // Transactions write them in turn.
    if first.transaction.abs_diff(second.transaction) > 1 {
        return Err((0, "its transaction is not next to that of page 1"));
    }
    Ok(if first.transaction >= second.transaction { first } else { second })
}

/// Read a meta page, of which `bytes` are the first `META_BYTES`.
pub(crate) fn parse(bytes: &[u8], index: u64) -> Result<Meta, &'static str> {
    let page = Page(bytes);
    if page.number() != index || page.flags() != kind::META {
        return Err("it is no meta page");
    }
    if u32_at(bytes, HEADER_BYTES) != MAGIC {
        return Err("it does not begin as a meta page does");
    }
    if u32_at(bytes, HEADER_BYTES + 4) & 0xffff != DATA_VERSION {
        return Err("it is of another version");
    }
    let page_bytes = u32_at(bytes, FREE_AT) as usize;
    if !PAGE_BYTES.contains(&page_bytes) {
        return Err("it has no possible size of pages");
    }
    let transaction = u64_at(bytes, LAST_PAGE_AT + 8);
    if transaction != 0 && transaction % 2 != index {
        return Err("its transaction belongs to the other meta page");
    }
    if u32_at(bytes, MAIN_AT) != 0
        || u16_at(bytes, FREE_AT + 4) != FREE_FLAGS
        || u16_at(bytes, MAIN_AT + 4) != MAIN_FLAGS
    {
        return Err("it has other flags than any that Millrace writes");
    }
    Ok(Meta {
        page_bytes,
        free: database(bytes, FREE_AT)?,
        main: database(bytes, MAIN_AT)?,
        last_page: u64_at(bytes, LAST_PAGE_AT),
        transaction,
    })
}

fn database(bytes: &[u8], at: usize) -> Result<Database, &'static str> {
    let found = Database {
        depth: u16_at(bytes, at + 6),
        branches: u64_at(bytes, at + 8),
        leaves: u64_at(bytes, at + 16),
        overflow: u64_at(bytes, at + 24),
        entries: u64_at(bytes, at + 32),
        root: u64_at(bytes, at + 40),
    };
    let empty = found.root == NO_PAGE;
    if found.depth > DEPTH_MAX || empty != (found.depth == 0) || empty != (found.entries == 0) {
        return Err("it has a tree of no possible depth");
    }
    Ok(found)
}
