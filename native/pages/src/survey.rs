//! Walks every page that the newest meta page leads to.
use crate::free::each_run;
use crate::meta::{self, Database, META_BYTES, Meta, NO_PAGE};
use crate::page::{BIG_DATA, HEADER_BYTES, Node, Page, Pages, kind, u64_at};
use crate::record::{is_right, put_right};
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Flaws that are named; the others are counted.
pub const FLAWS_MAX: usize = 1000;
/// Bytes of the longest key.
const KEY_BYTES_MAX: usize = 511;
/// Bytes of a key of the list of free pages.
const FREE_KEY_BYTES: usize = 8;
/// What LMDB takes for the size of a page where nobody says otherwise.
const PAGE_BYTES_LIKELY: usize = 4096;

/// Something that is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The page's number.
    pub page: u64,
    /// What is wrong, as a sentence about the page.
    pub what: &'static str,
}

/// What a survey of a file found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The first flaws.
    pub flaws: Vec<Flaw>,
    /// All flaws.
    pub flawed: u64,
    /// Records that were met.
    pub records: u64,
    /// Pages that were read.
    pub pages: u64,
    /// The transaction whose state was read, 0 where there is none.
    pub transaction: u64,
}

impl Survey {
    fn add(&mut self, page: u64, what: &'static str) {
        self.flawed += 1;
        if self.flaws.len() < FLAWS_MAX {
            self.flaws.push(Flaw { page, what });
        }
    }
}

/// Look at every page that is in use: whether LMDB can follow it, finds every record under its own key, and takes no page
/// that is in use for a free one. Cost: each page is read once. Memory: two bits for each page.
pub fn survey(path: &Path) -> io::Result<Survey> {
    survey_and_read(path, None, &mut |_, _| {})
}

/// As `survey`, and hand on every record that can still be read: in order where nothing is wrong. What lies in leaves
/// that no whole branch leads to comes last, so a key may come twice when there are flaws; the first is the newer one.
/// A record whose key one flipped bit has changed comes with the key that it had; where more is wrong, it does not come.
///
/// `metas` are meta pages to begin from, one behind the other, in place of those of the file.
pub fn survey_and_read(
    path: &Path,
    metas: Option<&[u8]>,
    record: &mut dyn FnMut(&[u8], &[u8]),
) -> io::Result<Survey> {
    let file = File::open(path)?;
    let mut found = Survey::default();
    let meta = match metas {
        None => newest_meta(&mut found, |into, at| file.read_exact_at(into, at)),
        Some(metas) => newest_meta(&mut found, |into, at| copy_at(metas, into, at)),
    };
    let Some(meta) = meta else {
        return Ok(found);
    };
    found.transaction = meta.transaction;
    let pages = Pages::new(file, meta.page_bytes)?;
    if meta.used_pages() > pages.count / 2 {
        pages.will_need();
    }
    let mut walk = Walk::new(&pages, &meta, found, record);
    walk.database(&meta.free, true);
    let free_is_whole = walk.found.flawed == 0;
    walk.database(&meta.main, false);
    walk.check_free(&meta);
    if free_is_whole && walk.found.flawed > 0 {
        walk.stranded_leaves();
    }
    Ok(walk.found)
}

fn newest_meta(
    found: &mut Survey,
    read_at: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> Option<Meta> {
    let read = |index: u64, at: u64| -> Result<Meta, &'static str> {
        let mut bytes = [0; META_BYTES];
        read_at(&mut bytes, at).map_err(|_| "it cannot be read")?;
        meta::parse(&bytes, index)
    };
    let first = read(0, 0);
    let page_bytes = first.as_ref().map_or(PAGE_BYTES_LIKELY, |meta| meta.page_bytes);
    let second = read(1, page_bytes as u64);
    match meta::pick(&first, &second) {
        Ok(meta) => Some(meta),
        Err((page, what)) => {
            found.add(page, what);
            [first, second].into_iter().flatten().max_by_key(|meta| meta.transaction)
        }
    }
}

fn copy_at(from: &[u8], into: &mut [u8], at: u64) -> io::Result<()> {
    let part = from.get(at as usize..at as usize + into.len());
    into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// One bit for each page.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Self {
        Self(vec![0; (count / 64 + 1) as usize])
    }

    /// True: it was not set before.
    fn set(&mut self, index: u64) -> bool {
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn has(&self, index: u64) -> bool {
        self.0[(index / 64) as usize] & (1 << (index % 64)) != 0
    }
}

/// Which keys may lie below a page: from one (inclusive) to another (exclusive).
#[derive(Clone, Copy, Default)]
struct Bounds<'a> {
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
}

impl Bounds<'_> {
    fn hold(&self, key: &[u8]) -> bool {
        self.from.is_none_or(|from| key >= from) && self.to.is_none_or(|to| key < to)
    }
}

/// What a database turned out to have.
#[derive(Default, PartialEq, Eq)]
struct Counts {
    branches: u64,
    leaves: u64,
    overflow: u64,
    entries: u64,
}

struct Walk<'a> {
    pages: &'a Pages,
    transaction: u64,
    /// Pages of the state, as the meta page says.
    claimed: u64,
    /// Those of them that the file has.
    end: u64,
    seen: Bits,
    free: Bits,
    /// Free pages that the file does not reach to.
    free_behind_end: u64,
    counts: Counts,
    /// It is the list of free pages that is being walked.
    in_free: bool,
    found: Survey,
    record: &'a mut dyn FnMut(&[u8], &[u8]),
}

impl<'a> Walk<'a> {
    fn new(
        pages: &'a Pages,
        meta: &Meta,
        found: Survey,
        record: &'a mut dyn FnMut(&[u8], &[u8]),
    ) -> Self {
        let claimed = meta.last_page.saturating_add(1);
        let mut seen = Bits::new(pages.count);
        seen.set(0);
        seen.set(1.min(pages.count));
        Self {
            pages,
            transaction: meta.transaction,
            claimed,
            end: pages.count.min(claimed),
            seen,
            free: Bits::new(pages.count),
            free_behind_end: 0,
            counts: Counts::default(),
            in_free: false,
            found,
            record,
        }
    }

    fn database(&mut self, database: &Database, in_free: bool) {
        self.in_free = in_free;
        self.counts = Counts::default();
        let before = self.found.flawed;
        if database.root != NO_PAGE {
            self.page(database.root, database.depth, Bounds::default());
        }
        let said = Counts {
            branches: database.branches,
            leaves: database.leaves,
            overflow: database.overflow,
            entries: database.entries,
        };
        // What cannot be read cannot be counted.
        if self.counts != said && self.found.flawed == before {
            self.found.add(self.transaction % 2, "it counts other pages or records than there are");
        }
    }

    /// Read a page that should be part of the state, and only at one place.
    fn take(&mut self, number: u64) -> Option<Vec<u8>> {
        if number < 2 || number >= self.end {
            self.found.add(number, "another page leads to it, but the file has no such page");
            return None;
        }
        // Read, it could be taken for the page that the other one should lead to.
        if !self.in_free && self.free.has(number) {
            self.found.add(number, "another page leads to it, but it is listed as free");
            return None;
        }
        if !self.seen.set(number) {
            self.found.add(number, "more than one other page leads to it");
            return None;
        }
        let mut bytes = vec![0; self.pages.page_bytes];
        self.found.pages += 1;
        if self.pages.read(number, &mut bytes).is_err() {
            self.found.add(number, "it cannot be read");
            return None;
        }
        let page = Page(&bytes);
        if page.number() != number {
            self.found.add(number, "it says that it is another page");
            return None;
        }
        if page.transaction() > self.transaction {
            self.found.add(number, "it is newer than the newest state");
            return None;
        }
        Some(bytes)
    }

    /// Walk the page that is so many levels above the bottom of its leaves.
    fn page(&mut self, number: u64, levels: u16, bounds: Bounds<'_>) {
        let Some(bytes) = self.take(number) else {
            return;
        };
        let page = Page(&bytes);
        let is_leaf = levels == 1;
        if page.flags() != if is_leaf { kind::LEAF } else { kind::BRANCH } {
            self.found.add(number, "it is of another kind than its place");
            // The records of a leaf can be read whatever it says; one branch too many or too few leads astray.
            if !is_leaf || page.flags() == kind::BRANCH {
                return;
            }
        }
        let Some(count) = page.nodes() else {
            return self.found.add(number, "its bounds make no sense");
        };
        let nodes: Vec<Node<'_>> =
            (0..count).filter_map(|index| page.node(index, is_leaf)).collect();
        let used: usize = nodes.iter().map(|node| node.bytes).sum();
        if nodes.len() != count || used != page.node_bytes() {
            self.found.add(number, "its nodes do not fit into it");
        }
        if is_leaf {
            self.leaf(number, &nodes, bounds);
        } else {
            self.branch((number, levels), &nodes, bounds);
        }
    }

    fn branch(&mut self, (number, levels): (u64, u16), nodes: &[Node<'_>], bounds: Bounds<'_>) {
        self.counts.branches += 1;
        if nodes.len() < 2 {
            self.found.add(number, "it is a branch with fewer than two ways");
        }
        let keys: Vec<Cow<'_, [u8]>> = nodes.iter().map(|node| self.ordered(node.key)).collect();
        // The first key counts as lower than all others, whatever it is.
        for (index, key) in keys.iter().enumerate().skip(1) {
            let ascends = index == 1 || keys[index - 1] < *key;
            if !ascends || !bounds.hold(key) || !self.is_key(key) {
                self.found.add(number, "its keys are out of order");
            }
        }
        for (index, node) in nodes.iter().enumerate() {
            let from = if index == 0 { bounds.from } else { Some(&*keys[index]) };
            let to = keys.get(index + 1).map_or(bounds.to, |key| Some(&**key));
            self.page(node.child(), levels - 1, Bounds { from, to });
        }
    }

    fn leaf(&mut self, number: u64, nodes: &[Node<'_>], bounds: Bounds<'_>) {
        self.counts.leaves += 1;
        if nodes.is_empty() {
            self.found.add(number, "it is a leaf without records");
        }
        let mut last: Option<Cow<'_, [u8]>> = None;
        for node in nodes {
            self.counts.entries += 1;
            let key = self.ordered(node.key);
            if node.flags & !BIG_DATA != 0 || !self.is_key(&key) {
                self.found.add(number, "it has a record that no tree has");
                continue;
            }
            if last.as_ref().is_some_and(|last| key <= *last) || !bounds.hold(&key) {
                self.found.add(number, "its keys are out of order");
            }
            if node.flags & BIG_DATA == 0 {
                self.pair(number, node.key, node.data);
            } else if let Some(value) = self.overflow(number, node) {
                self.pair(number, node.key, &value[..]);
            }
            last = Some(key);
        }
    }

    fn pair(&mut self, number: u64, key: &[u8], value: &[u8]) {
        if self.in_free {
            return self.free_list(number, value);
        }
        if is_right(key, value) {
            self.found.records += 1;
            return (self.record)(key, value);
        }
        self.found.add(number, "it has a record that was stored under another key");
        if let Some((key, value)) = put_right(key, value) {
            self.found.records += 1;
            (self.record)(&key, &value);
        }
    }

    /// The value of a record that has pages of its own.
    fn overflow(&mut self, leaf: u64, node: &Node<'_>) -> Option<Vec<u8>> {
        let (first, held) = (u64_at(node.data, 0), u64_at(node.data, 16));
        let bytes = node.value_bytes() as usize;
        let page_bytes = self.pages.page_bytes;
        let needed = ((HEADER_BYTES + bytes).div_ceil(page_bytes)) as u64;
        if first < 2 || first.checked_add(needed).is_none_or(|end| end > self.end) {
            self.found.add(leaf, "it has a record whose value lies behind the end");
            return None;
        }
        self.found.pages += needed;
        if !self.take_run(first, needed) {
            return None;
        }
        let mut run = vec![0; needed as usize * page_bytes];
        if self.pages.read(first, &mut run).is_err() {
            self.found.add(first, "it cannot be read");
            return None;
        }
        let page = Page(&run);
        let claimed = u64::from(page.overflow_pages());
        if page.number() != first
            || page.flags() != kind::OVERFLOW
            || claimed < needed
            || page.transaction() > self.transaction
        {
            self.found.add(first, "it is not the value that a record leads to");
            return None;
        }
        // A value that takes the place of a longer one within a transaction keeps the pages of that one.
        if claimed != held || first.checked_add(claimed).is_none_or(|end| end > self.end) {
            self.found.add(leaf, "it has a record whose value is of another length");
        } else {
            self.take_run(first + needed, claimed - needed);
        }
        run.truncate(HEADER_BYTES + bytes);
        run.drain(..HEADER_BYTES);
        Some(run)
    }

    /// Pages of one value, that nothing else may lead to.
    fn take_run(&mut self, first: u64, count: u64) -> bool {
        self.counts.overflow += count;
        let is_fresh = (first..first + count).all(|page| self.seen.set(page));
        if !is_fresh {
            self.found.add(first, "more than one other page leads to it");
        }
        is_fresh
    }

    fn free_list(&mut self, number: u64, list: &[u8]) {
        let (claimed, count) = (self.claimed, self.pages.count);
        let (free, behind) = (&mut self.free, &mut self.free_behind_end);
        let is_sound = each_run(list, |first, pages| {
            let end = first.saturating_add(pages);
            if first < 2 || end > claimed {
                return false;
            }
            *behind += end.saturating_sub(first.max(count));
            (first.min(count)..end.min(count)).all(|page| free.set(page))
        });
        if !is_sound {
            self.found.add(number, "it lists free pages that there cannot be");
        }
    }

    /// Hold what is free against what is in use.
    fn check_free(&mut self, meta: &Meta) {
        let both = (0..self.pages.count).find(|page| self.seen.has(*page) && self.free.has(*page));
        if let Some(page) = both {
            self.found.add(page, "it is in use, and listed as free");
        }
        let missing = self.claimed.saturating_sub(self.pages.count);
        if missing > self.free_behind_end {
            self.found.add(meta.transaction % 2, "it claims pages that the file does not have");
        }
    }

    /// Read leaves that are neither free nor led to: a branch above them is damaged.
    fn stranded_leaves(&mut self) {
        let mut bytes = vec![0; self.pages.page_bytes];
        for number in 2..self.end {
            if self.seen.has(number) || self.free.has(number) {
                continue;
            }
            self.found.pages += 1;
            if self.pages.read(number, &mut bytes).is_err() {
                continue;
            }
            let page = Page(&bytes);
            let is_leaf = page.number() == number && page.flags() == kind::LEAF;
            if !is_leaf || page.transaction() > self.transaction {
                continue;
            }
            for index in 0..page.nodes().unwrap_or(0) {
                let Some(node) = page.node(index, true) else {
                    continue;
                };
                if node.flags & !BIG_DATA != 0 || !self.is_key(node.key) {
                    continue;
                }
                if node.flags & BIG_DATA == 0 {
                    self.pair(number, node.key, node.data);
                } else if let Some(value) = self.overflow(number, &node) {
                    self.pair(number, node.key, &value);
                }
            }
        }
    }

    fn is_key(&self, key: &[u8]) -> bool {
        let most = if self.in_free { FREE_KEY_BYTES } else { KEY_BYTES_MAX };
        let least = if self.in_free { FREE_KEY_BYTES } else { 1 };
        (least..=most).contains(&key.len())
    }

    /// A key so that the order of its bytes is that of the database: free pages are listed by little-endian numbers.
    fn ordered<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        if self.in_free { key.iter().rev().copied().collect() } else { Cow::Borrowed(key) }
    }
}
