//! Messages and packets.
//!
//! A message travels as one or more packets. Each is a header, little endian, and data:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | bytes of the whole message |
//! | 8 | 8 | bytes of data in this packet |
//! | 16 | 4 | index of this packet, from 0 |
//! | 20 | 4 | number of packets, at least 1 |
//! | 24 | .. | data |
//!
//! A packet has at most [`MAX_PACKET`] bytes. An empty message is one packet without data; no other
//! packet is without data.

/// Bytes of the header of a packet.
pub const HEADER: usize = 24;
/// Most bytes of a packet, header included.
pub const MAX_PACKET: usize = 131_072;
/// Most bytes of data in a packet.
pub const MAX_DATA: usize = MAX_PACKET - HEADER;
/// Most bytes of a message unless a caller asks for another limit.
pub const MAX_MESSAGE: usize = 64 << 20;

/// What is wrong with a packet. The connection it came from cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its header.
    #[error(
        "a packet of {0} bytes is shorter than the header of {HEADER} bytes; does the peer use the framing of before 2.8?"
    )]
    Short(usize),
    /// Longer than allowed.
    #[error("a packet of {0} bytes is longer than {MAX_PACKET} bytes")]
    Long(usize),
    /// The header tells another length of data than there is.
    #[error("a packet carries {has} bytes of data, its header says {said}")]
    DataLength {
        /// Bytes according to the header.
        said: u64,
        /// Bytes that came.
        has: usize,
    },
    /// The message is larger than this side accepts.
    #[error("a message of {total} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// Bytes according to the header.
        total: u64,
        /// The limit.
        limit: usize,
    },
    /// A number of packets that cannot be.
    #[error("a message of {total} bytes cannot come in {count} packets")]
    Count {
        /// Bytes of the message.
        total: u64,
        /// Packets according to the header.
        count: u32,
    },
    /// Not the next packet.
    #[error("packet {got} came where packet {wanted} was due")]
    Index {
        /// The next one.
        wanted: u32,
        /// The one that came.
        got: u32,
    },
    /// Size or number of packets differ from those in the first packet.
    #[error("a packet changes the size or the number of packets of its message")]
    Changed,
    /// A packet without data in a message that has some.
    #[error("a packet carries no data")]
    NoData,
    /// The data does not add up to the size of the message.
    #[error("the packets of a message of {total} bytes carry {got} bytes")]
    Sum {
        /// Bytes of the message.
        total: u64,
        /// Bytes that came.
        got: u64,
    },
}

/// The header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    total: u64,
    data: u64,
    index: u32,
    count: u32,
}

impl Header {
    fn decode(bytes: &[u8; HEADER]) -> Self {
        let (total, rest) = bytes.split_first_chunk().expect("24 bytes");
        let (data, rest) = rest.split_first_chunk().expect("16 bytes");
        let (index, rest) = rest.split_first_chunk().expect("8 bytes");
        let (count, _) = rest.split_first_chunk().expect("4 bytes");
        Header {
            total: u64::from_le_bytes(*total),
            data: u64::from_le_bytes(*data),
            index: u32::from_le_bytes(*index),
            count: u32::from_le_bytes(*count),
        }
    }

    fn append(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.total.to_le_bytes());
        out.extend_from_slice(&self.data.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
    }
}

/// Cuts a message into packets.
#[derive(Debug)]
pub struct Packets<'a> {
    message: &'a [u8],
    chunk: usize,
    index: u32,
    count: u32,
}

impl<'a> Packets<'a> {
    /// The packets of `message`.
    ///
    /// # Panics
    /// If the message has more than 2^32 packets, about 2^49 bytes.
    pub fn new(message: &'a [u8]) -> Self {
        Self::with_data(message, MAX_DATA)
    }

    /// As [`Packets::new`], with at most `chunk` bytes of data in each packet.
    fn with_data(message: &'a [u8], chunk: usize) -> Self {
        let count = message.len().div_ceil(chunk).max(1);
        Packets {
            message,
            chunk,
            index: 0,
            count: u32::try_from(count).expect("under 2^49 bytes"),
        }
    }

    /// Puts the next packet into `out`, replacing what is there; false when there are no more.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        if self.index == self.count {
            return false;
        }
        let start = self.index as usize * self.chunk;
        let data = &self.message[start..self.message.len().min(start + self.chunk)];
        out.clear();
        let header = Header {
            total: self.message.len() as u64,
            data: data.len() as u64,
            index: self.index,
            count: self.count,
        };
        header.append(out);
        out.extend_from_slice(data);
        self.index += 1;
        true
    }
}

/// Puts packets together.
#[derive(Debug)]
pub struct Assembler {
    limit: usize,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    first: Header,
    next: u32,
    data: Vec<u8>,
}

impl Assembler {
    /// An assembler of messages of up to `limit` bytes.
    ///
    /// It holds no more memory than the data that came, whatever headers promise.
    pub fn new(limit: usize) -> Self {
        Assembler {
            limit,
            partial: None,
        }
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Takes one packet; gives the message when it was the last one of it.
    ///
    /// # Errors
    /// The packet does not fit what came before. What was collected is dropped; as the peer is out
    /// of step, the connection should be closed.
    pub fn push(&mut self, packet: &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        let partial = self.partial.take();
        let (header, data) = self.check(packet)?;
        let mut partial = match partial {
            None if header.index != 0 => {
                return Err(FrameError::Index {
                    wanted: 0,
                    got: header.index,
                });
            }
            None => Partial {
                first: header,
                next: 0,
                data: Vec::new(),
            },
            Some(partial) => partial,
        };
        if (header.total, header.count) != (partial.first.total, partial.first.count) {
            return Err(FrameError::Changed);
        }
        if header.index != partial.next {
            return Err(FrameError::Index {
                wanted: partial.next,
                got: header.index,
            });
        }
        let got = (partial.data.len() + data.len()) as u64;
        let last = header.index + 1 == header.count;
        if got > header.total || (last && got != header.total) {
            return Err(FrameError::Sum {
                total: header.total,
                got,
            });
        }
        partial.data.extend_from_slice(data);
        partial.next += 1;
        if last {
            return Ok(Some(partial.data));
        }
        self.partial = Some(partial);
        Ok(None)
    }

    /// What can be said about a packet without the ones before it.
    fn check<'a>(&self, packet: &'a [u8]) -> Result<(Header, &'a [u8]), FrameError> {
        if packet.len() > MAX_PACKET {
            return Err(FrameError::Long(packet.len()));
        }
        let (header, data) = packet
            .split_first_chunk()
            .ok_or(FrameError::Short(packet.len()))?;
        let header = Header::decode(header);
        if header.data != data.len() as u64 {
            return Err(FrameError::DataLength {
                said: header.data,
                has: data.len(),
            });
        }
        if header.total > self.limit as u64 {
            return Err(FrameError::TooLarge {
                total: header.total,
                limit: self.limit,
            });
        }
        // Each packet of a message that is not empty carries a byte at least.
        if header.count == 0 || u64::from(header.count) > header.total.max(1) {
            return Err(FrameError::Count {
                total: header.total,
                count: header.count,
            });
        }
        if header.index >= header.count {
            return Err(FrameError::Index {
                wanted: header.count - 1,
                got: header.index,
            });
        }
        if data.is_empty() && header.total > 0 {
            return Err(FrameError::NoData);
        }
        Ok((header, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets(message: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut packets = Packets::with_data(message, chunk);
        let mut all = Vec::new();
        let mut packet = Vec::new();
        while packets.next_into(&mut packet) {
            all.push(packet.clone());
        }
        all
    }

    fn raw(total: u64, data: u64, index: u32, count: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Header {
            total,
            data,
            index,
            count,
        }
        .append(&mut out);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_small_message_is_one_packet_as_recorded() {
        let body = [
            0x08, 0x02, 0x10, 0xca, 0x01, 0x18, 0x01, 0x22, 0x02, 0x10, 0x01,
        ];
        let all = packets(&body, MAX_DATA);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].len(), 35);
        let header = [
            11, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ];
        assert_eq!(all[0][..HEADER], header);
        assert_eq!(all[0][HEADER..], body);
    }

    #[test]
    fn an_empty_message_is_one_packet_without_data() {
        let all = packets(&[], MAX_DATA);
        assert_eq!(all, [raw(0, 0, 0, 1, &[])]);
        assert_eq!(Assembler::new(10).push(&all[0]), Ok(Some(Vec::new())));
    }

    #[test]
    fn packets_are_cut_at_the_limit() {
        for (len, count) in [(MAX_DATA, 1), (MAX_DATA + 1, 2), (3 * MAX_DATA, 3)] {
            let message: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let all = packets(&message, MAX_DATA);
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|packet| packet.len() <= MAX_PACKET));
            let mut assembler = Assembler::new(MAX_MESSAGE);
            let (last, rest) = all.split_last().unwrap();
            for packet in rest {
                assert_eq!(assembler.push(packet), Ok(None));
                assert!(assembler.is_partial());
            }
            assert_eq!(assembler.push(last), Ok(Some(message)));
            assert!(!assembler.is_partial());
        }
    }

    #[test]
    fn each_inconsistency_is_named() {
        let push = |before: &[Vec<u8>], packet: Vec<u8>| {
            let mut assembler = Assembler::new(1000);
            for packet in before {
                assert_eq!(assembler.push(packet), Ok(None));
            }
            let error = assembler.push(&packet).unwrap_err();
            assert!(!assembler.is_partial(), "what was collected is dropped");
            error
        };
        let first = [raw(6, 2, 0, 3, b"ab")];
        assert_eq!(push(&[], vec![0; 23]), FrameError::Short(23));
        assert_eq!(
            push(&[], vec![0; MAX_PACKET + 1]),
            FrameError::Long(MAX_PACKET + 1)
        );
        assert_eq!(
            push(&[], raw(6, 3, 0, 3, b"ab")),
            FrameError::DataLength { said: 3, has: 2 }
        );
        assert_eq!(
            push(&[], raw(1001, 2, 0, 3, b"ab")),
            FrameError::TooLarge {
                total: 1001,
                limit: 1000
            }
        );
        assert_eq!(
            push(&[], raw(2, 2, 0, 0, b"ab")),
            FrameError::Count { total: 2, count: 0 }
        );
        assert_eq!(
            push(&[], raw(2, 1, 0, 3, b"a")),
            FrameError::Count { total: 2, count: 3 }
        );
        assert_eq!(
            push(&[], raw(6, 2, 1, 3, b"ab")),
            FrameError::Index { wanted: 0, got: 1 }
        );
        assert_eq!(
            push(&[], raw(6, 2, 3, 3, b"ab")),
            FrameError::Index { wanted: 2, got: 3 }
        );
        assert_eq!(push(&[], raw(6, 0, 0, 3, b"")), FrameError::NoData);
        assert_eq!(
            push(&[], raw(6, 2, 0, 1, b"ab")),
            FrameError::Sum { total: 6, got: 2 }
        );
        assert_eq!(
            push(&first, raw(6, 2, 2, 3, b"ef")),
            FrameError::Index { wanted: 1, got: 2 }
        );
        assert_eq!(
            push(&first, raw(6, 2, 0, 3, b"ab")),
            FrameError::Index { wanted: 1, got: 0 }
        );
        assert_eq!(push(&first, raw(7, 2, 1, 3, b"cd")), FrameError::Changed);
        assert_eq!(push(&first, raw(6, 2, 1, 4, b"cd")), FrameError::Changed);
        assert_eq!(
            push(&first, raw(6, 5, 1, 3, b"cdefg")),
            FrameError::Sum { total: 6, got: 7 }
        );
        let two = [first[0].clone(), raw(6, 2, 1, 3, b"cd")];
        assert_eq!(
            push(&two, raw(6, 1, 2, 3, b"e")),
            FrameError::Sum { total: 6, got: 5 }
        );
    }

    #[test]
    fn a_header_alone_reserves_nothing() {
        let mut assembler = Assembler::new(usize::MAX);
        assert_eq!(assembler.push(&raw(1 << 60, 1, 0, 2, b"a")), Ok(None));
        assert!(assembler.partial.unwrap().data.capacity() < 100);
    }

    proptest! {
        #[test]
        fn any_message_in_any_chunks_comes_back(
            message in prop::collection::vec(any::<u8>(), 0..5000),
            chunk in 1usize..700,
        ) {
            let mut assembler = Assembler::new(5000);
            let mut whole = None;
            for packet in packets(&message, chunk) {
                prop_assert!(whole.is_none());
                whole = assembler.push(&packet).unwrap();
            }
            prop_assert_eq!(whole, Some(message));
        }

        #[test]
        fn any_packets_are_taken_or_refused_within_the_limit(
            packets in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..64),
                    // Headers that are nearly right reach further than noise does.
                    (0u64..40, 0u64..12, 0u32..5, 0u32..6, prop::collection::vec(any::<u8>(), 0..12))
                        .prop_map(|(total, _, index, count, body)| {
                            raw(total, body.len() as u64, index, count, &body)
                        }),
                ],
                0..40,
            ),
        ) {
            let mut assembler = Assembler::new(30);
            for packet in packets {
                if let Ok(Some(message)) = assembler.push(&packet) {
                    prop_assert!(message.len() <= 30);
                }
                if let Some(partial) = &assembler.partial {
                    prop_assert!(partial.data.len() <= 30);
                }
            }
        }
    }
}
