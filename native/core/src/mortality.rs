//! Lets a test end a native thread in the middle of its work, to see that nobody hangs then.
//!
//! `MILLRACE_TEST_DIE=role:uses` makes every thread of that role panic when it begins its work after so many:
//! `front`, a request, `mover`, a job. Workers know further roles: `workers/mortality.ts`.

/// How much work a thread may still begin. One thread's own.
#[derive(Debug)]
pub struct Life(u64);

impl Life {
    /// The life of a thread with this role: without end, unless a test wants another.
    #[must_use]
    pub fn of(role: &str) -> Self {
        let text = std::env::var("MILLRACE_TEST_DIE").unwrap_or_default();
        Self::told(role, &text)
    }

    fn told(role: &str, text: &str) -> Self {
        let (which, uses) = text.split_once(':').unwrap_or_default();
        let uses = if which == role { uses.parse().ok() } else { None };
        Self(uses.unwrap_or(u64::MAX))
    }

    /// Begin one more piece of work.
    ///
    /// # Panics
    /// When a test has asked for it.
    pub fn spend(&mut self) {
        assert!(self.0 > 0, "this thread was told to die by MILLRACE_TEST_DIE");
        self.0 -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_role_that_is_named_dies_and_when_it_was_told() {
        let mut mover = Life::told("mover", "mover:2");
        mover.spend();
        mover.spend();
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mover.spend()));
        assert!(end.is_err());
        for text in ["", "mover:2", "front", "front:", "front:x", ":2"] {
            assert_eq!(Life::told("front", text).0, u64::MAX, "{text}");
        }
    }
}
