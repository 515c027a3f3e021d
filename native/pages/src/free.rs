//! The list of free pages: a database whose values are lists of page numbers.
use crate::page::u64_at;

const WORD: usize = 8;

/// Call `range` with the first page and the number of pages of each run of a list, until it refuses one. False: the
/// list makes no sense.
///
/// A list is its length, then words: a page, zero for a gap, or minus a number of pages followed by the first of them.
pub(crate) fn each_run(list: &[u8], mut range: impl FnMut(u64, u64) -> bool) -> bool {
    if list.len() < WORD || !list.len().is_multiple_of(WORD) {
        return false;
    }
    let words = u64_at(list, 0);
    if words > (list.len() / WORD - 1) as u64 {
        return false;
    }
    let mut index = 1;
    while index <= words as usize {
        let word = u64_at(list, index * WORD) as i64;
        index += 1;
        if word == 0 {
            continue;
        }
        let (first, pages) = if word > 0 {
            (word as u64, 1)
        } else if index <= words as usize {
            index += 1;
            (u64_at(list, (index - 1) * WORD), word.unsigned_abs())
        } else {
            return false;
        };
        if !range(first, pages) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::each_run;

    fn runs(words: &[i64]) -> Option<Vec<(u64, u64)>> {
        let list: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut found = Vec::new();
        each_run(&list, |first, pages| {
            found.push((first, pages));
            true
        })
        .then_some(found)
    }

    #[test]
    fn pages_gaps_and_runs_are_told_apart() {
        assert_eq!(runs(&[0]), Some(vec![]));
        assert_eq!(runs(&[5, 9, 0, -3, 4, 2]), Some(vec![(9, 1), (4, 3), (2, 1)]));
        // What lies behind the length does not count.
        assert_eq!(runs(&[1, 9, 8]), Some(vec![(9, 1)]));
    }

    #[test]
    fn a_list_that_is_cut_off_makes_no_sense() {
        assert_eq!(runs(&[]), None);
        assert_eq!(runs(&[2, 9]), None);
        assert_eq!(runs(&[1, -2, 9]), None);
        assert!(!each_run(&[1, 0, 0], |_, _| true));
    }
}
