//! Keys in the reply of a listing: each a little-endian u16 length and the bytes.

use crate::{DecodeError, KEY_MAX};

/// Appends keys to a buffer until it is full.
pub struct ListWriter<'a> {
    buffer: &'a mut [u8],
    used: usize,
    count: u32,
}

impl<'a> ListWriter<'a> {
    /// Starts at the front of `buffer`.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            buffer,
            used: 0,
            count: 0,
        }
    }

    /// Appends a key; `false` (and nothing written) if it does not fit.
    pub fn push(&mut self, key: &[u8]) -> bool {
        let Ok(len) = u16::try_from(key.len()) else {
            return false;
        };
        let end = self.used + 2 + key.len();
        if end > self.buffer.len() {
            return false;
        }
        self.buffer[self.used..self.used + 2].copy_from_slice(&len.to_le_bytes());
        self.buffer[self.used + 2..end].copy_from_slice(key);
        self.used = end;
        self.count += 1;
        true
    }

    /// Bytes used and keys written.
    pub fn finish(self) -> (usize, u32) {
        (self.used, self.count)
    }
}

/// Keys of a reply.
#[derive(Clone, Debug)]
pub struct ListEntries<'a> {
    rest: &'a [u8],
}

impl<'a> ListEntries<'a> {
    /// Walks the inline bytes of a reply.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for ListEntries<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bad = DecodeError::Field("list entry");
        let Some((len, rest)) = self.rest.split_first_chunk::<2>() else {
            self.rest = &[];
            return Some(Err(bad));
        };
        let len = usize::from(u16::from_le_bytes(*len));
        if len == 0 || len > KEY_MAX || len > rest.len() {
            self.rest = &[];
            return Some(Err(bad));
        }
        let (key, rest) = rest.split_at(len);
        self.rest = rest;
        Some(Ok(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_until_full_and_reads_back() {
        let mut buffer = [0u8; 12];
        let mut writer = ListWriter::new(&mut buffer);
        assert!(writer.push(b"abc"));
        assert!(writer.push(b"de"));
        assert!(!writer.push(b"fgh"));
        let (used, count) = writer.finish();
        assert_eq!((used, count), (9, 2));
        let keys: Result<Vec<_>, _> = ListEntries::new(&buffer[..used]).collect();
        assert_eq!(keys.unwrap(), [b"abc".as_slice(), b"de"]);
    }

    #[test]
    fn refuses_entries_that_leave_the_buffer() {
        for bad in [&b"\x05"[..], b"\x05\x00abc", b"\x00\x00"] {
            let mut entries = ListEntries::new(bad);
            assert!(entries.next().unwrap().is_err());
            assert!(entries.next().is_none());
        }
    }
}
