//! Lets a test end the whole process at a chosen point of its work, as a `kill -9` there would.
//!
//! `MILLRACE_TEST_KILL=point:n` has the process send itself SIGKILL when it passes the point for the nth time.
//! Points of TypeScript, and the table of all of them: `engine/kill-points.ts`.
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the process can be told to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillPoint {
    /// A chunk's object has a temporary name, and no byte.
    ObjectCreated,
    /// It has its bytes, which are not flushed.
    ObjectWritten,
    /// It is flushed, and has no final name.
    ObjectFlushed,
    /// It has its final name, which is not flushed.
    ObjectNamed,
    /// It has taken the place of one in an earlier epoch.
    ObjectReplaced,
    /// The store's barrier begins.
    Barrier,
    /// One of its directories is flushed.
    BarrierDirectory,
    /// All are, and nobody knows yet.
    BarrierEnded,
    /// A WRITE is queued, and about to be answered.
    WriteAnswer,
    /// A WRITE was answered.
    WriteAnswered,
    /// A FLUSH is about to be answered.
    FlushAnswer,
    /// A FLUSH was answered.
    FlushAnswered,
    /// An FSYNC is about to be answered.
    FsyncAnswer,
    /// An FSYNC was answered.
    FsyncAnswered,
    /// A RENAME is about to be answered.
    RenameAnswer,
    /// A RENAME was answered.
    RenameAnswered,
    /// Garbage is about to be swept: all that is needed is marked and durable.
    SweepBegun,
    /// A chunk that nobody needs is about to be deleted.
    ChunkDelete,
    /// It is deleted, which is not flushed.
    ChunkDeleted,
    /// All of them are.
    SweepEnded,
}

/// Every point of native code, by the name that the variable has for it.
pub const KILL_POINTS: [(&str, KillPoint); 20] = [
    ("object-created", KillPoint::ObjectCreated),
    ("object-written", KillPoint::ObjectWritten),
    ("object-flushed", KillPoint::ObjectFlushed),
    ("object-named", KillPoint::ObjectNamed),
    ("object-replaced", KillPoint::ObjectReplaced),
    ("barrier-begun", KillPoint::Barrier),
    ("barrier-directory", KillPoint::BarrierDirectory),
    ("barrier-ended", KillPoint::BarrierEnded),
    ("write-answer", KillPoint::WriteAnswer),
    ("write-answered", KillPoint::WriteAnswered),
    ("flush-answer", KillPoint::FlushAnswer),
    ("flush-answered", KillPoint::FlushAnswered),
    ("fsync-answer", KillPoint::FsyncAnswer),
    ("fsync-answered", KillPoint::FsyncAnswered),
    ("rename-answer", KillPoint::RenameAnswer),
    ("rename-answered", KillPoint::RenameAnswered),
    ("sweep-begun", KillPoint::SweepBegun),
    ("chunk-delete", KillPoint::ChunkDelete),
    ("chunk-deleted", KillPoint::ChunkDeleted),
    ("sweep-ended", KillPoint::SweepEnded),
];

/// The point that ends the process, and how often it may still be passed.
struct Sentence {
    point: KillPoint,
    left: AtomicU64,
}

fn sentence() -> Option<&'static Sentence> {
    static SENTENCE: OnceLock<Option<Sentence>> = OnceLock::new();
    SENTENCE
        .get_or_init(|| parse(&std::env::var("MILLRACE_TEST_KILL").unwrap_or_default()))
        .as_ref()
}

fn parse(text: &str) -> Option<Sentence> {
    let (name, passages) = text.split_once(':')?;
    let (_, point) = KILL_POINTS.iter().find(|(known, _)| *known == name)?;
    let left = AtomicU64::new(passages.parse().ok()?);
    Some(Sentence { point: *point, left })
}

/// Whether a test has chosen a point of native code.
#[must_use]
pub fn kills() -> bool {
    sentence().is_some()
}

/// Pass a point; the process ends here when a test has asked for it. One load when none has.
pub fn pass(point: KillPoint) {
    let Some(sentence) = sentence() else { return };
    // ORDER: only the count matters; the signal ends every thread.
    if sentence.point == point && sentence.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        // SAFETY: plain system call; it does not return when it reaches this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix of kills goes through the table of TypeScript.
    #[test]
    fn every_point_is_in_the_table() {
        let table = include_str!("../../../engine/kill-points.ts");
        for (name, _) in KILL_POINTS {
            assert!(table.contains(&format!("  '{name}': ")), "{name}");
        }
    }

    #[test]
    fn a_sentence_names_a_point_and_a_passage() {
        for (name, point) in KILL_POINTS {
            let told = parse(&format!("{name}:3")).map(|s| (s.point, s.left.into_inner()));
            assert_eq!(told, Some((point, 3)), "{name}");
        }
        for text in ["", "barrier-begun", "barrier-begun:", "barrier-begun:x", "log-append:1", ":1"]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
