//! Little-endian access to byte slices, checked.

use thiserror::Error;

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Fewer bytes than the header or the lengths in it need.
    #[error("message of {have} bytes is shorter than the {need} it must have")]
    Short {
        /// Bytes received.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// More bytes than the lengths in the header account for.
    #[error("message of {have} bytes is longer than the {need} it declares")]
    Long {
        /// Bytes received.
        have: usize,
        /// Bytes declared.
        need: usize,
    },
    /// Not a message of this protocol.
    #[error("message does not start with the magic number of the protocol")]
    Magic,
    /// Another version of the layout.
    #[error("message has layout version {0}, this side speaks {ours}", ours = crate::VERSION)]
    Version(u16),
    /// Header, address or keys changed on the way.
    #[error("header checksum is {found:#010x} where {expected:#010x} is computed")]
    Checksum {
        /// In the message.
        found: u32,
        /// Computed over the message.
        expected: u32,
    },
    /// A field has a value that it must not have.
    #[error("field {0} is out of range")]
    Field(&'static str),
}

/// Reads fields at fixed offsets of a header whose length was checked before.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.0[at..at + N]);
        out
    }
    pub(crate) fn u8(self, at: usize) -> u8 {
        self.0[at]
    }
    pub(crate) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }
    pub(crate) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }
    pub(crate) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }
    pub(crate) fn uuid(self, at: usize) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.array(at))
    }
}

/// Writes fields at fixed offsets.
pub(crate) struct FieldsMut<'a>(pub(crate) &'a mut [u8]);

impl FieldsMut<'_> {
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    pub(crate) fn u8(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }
    pub(crate) fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// Cuts `len` bytes off the front of `rest`, which is known to have them.
pub(crate) fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (head, tail) = rest.split_at(len.min(rest.len()));
    *rest = tail;
    head
}

/// Checks that a message has exactly `need` bytes.
pub(crate) fn exact(have: usize, need: usize) -> Result<(), DecodeError> {
    match have.cmp(&need) {
        std::cmp::Ordering::Less => Err(DecodeError::Short { have, need }),
        std::cmp::Ordering::Greater => Err(DecodeError::Long { have, need }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}
