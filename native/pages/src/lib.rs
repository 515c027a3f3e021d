//! Reads an LMDB file (data version 2) page by page and trusts nothing in it.
//!
//! LMDB follows whatever number a page holds: after a flipped bit it may end the process, read another page, or not
//! find a key that is there. Values are sealed by who stores them; here is what leads to the values: meta pages,
//! branches, the nodes of leaves, keys, and the list of free pages. No page is mapped, so a disk that fails is an error.
mod free;
mod meta;
mod page;
mod record;
mod survey;

pub use survey::{FLAWS_MAX, Flaw, Survey, survey, survey_and_read};
