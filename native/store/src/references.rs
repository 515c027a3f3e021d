//! Which chunks a tree refers to.
use millrace_vault::ChunkId;

/// References that are collected before they are first made a set.
const UNSORTED_MIN: usize = 1 << 16;

/// A chunk that an extent refers to, and how long the extent says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The chunk.
    pub id: ChunkId,
    /// Bytes of its plaintext.
    pub plain_bytes: u32,
}

/// A set of references, collected in any order and as often as they come.
///
/// Memory: 72 bytes at most for each different one (and 2.3 MiB at least), 36 once it is sealed.
#[derive(Debug, Default)]
pub struct References {
    all: Vec<Reference>,
    /// How many there may be before they are made a set again.
    limit: usize,
}

impl References {
    /// Add one.
    pub fn add(&mut self, reference: Reference) {
        if self.all.len() >= self.limit {
            self.unite();
            self.limit = (2 * self.all.len()).max(UNSORTED_MIN);
            self.all.reserve_exact(self.limit - self.all.len());
        }
        self.all.push(reference);
    }

    /// The set, in order.
    #[must_use]
    pub fn seal(mut self) -> Vec<Reference> {
        self.unite();
        self.all.shrink_to_fit();
        self.all
    }

    fn unite(&mut self) {
        self.all.sort_unstable();
        self.all.dedup();
    }
}

/// Where the references to a chunk lie in a sealed set.
pub(crate) fn range_of(references: &[Reference], id: &ChunkId) -> std::ops::Range<usize> {
    let start = references.partition_point(|reference| reference.id < *id);
    let count = references[start..].iter().take_while(|reference| reference.id == *id).count();
    start..start + count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(number: u32, plain_bytes: u32) -> Reference {
        let mut id = [0; 32];
        // Scattered over all first bytes, as real ids are.
        id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_le_bytes());
        Reference { id: ChunkId(id), plain_bytes }
    }

    #[test]
    fn a_set_holds_each_reference_once_in_order_however_often_it_came() {
        let mut references = References::default();
        for round in 0..3 {
            for number in 0..100_000 {
                references.add(reference(number, 1 + number % 2 * round));
            }
        }
        assert!(references.all.capacity() <= 4 * 100_000);
        let sealed = references.seal();
        assert!(sealed.is_sorted());
        // Even numbers always said 1, odd ones 1, 2 and 3.
        assert_eq!(sealed.len(), 50_000 + 3 * 50_000);
        assert_eq!(range_of(&sealed, &reference(8, 0).id).len(), 1);
        let odd = range_of(&sealed, &reference(7, 0).id);
        let lengths: Vec<u32> = sealed[odd].iter().map(|found| found.plain_bytes).collect();
        assert_eq!(lengths, [1, 2, 3]);
        assert_eq!(range_of(&sealed, &reference(100_000, 0).id).len(), 0);
    }
}
