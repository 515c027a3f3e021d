//! Inputs that are several records, one behind the other.

/// A cursor over an input.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte, while there is one.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Two bytes as a number, while they are there.
    pub(crate) fn short(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes([self.byte()?, self.byte()?])))
    }

    /// So many bytes, or what is left.
    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (these, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        these
    }
}

/// A length in front of bytes, as `short` and `take` read it.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_le_bytes()[..], &bytes[..usize::from(length)]].concat()
}
