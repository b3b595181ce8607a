//! What travels on a connection: greeting, answer, and frames with a fixed header.
//!
//! All numbers are little endian. Messages and remote memory access have connections ("lanes") of
//! their own, so that a receiver short of memory for messages can stop reading them without stopping
//! anybody's memory access. On a lane for memory access the endpoint that dialled it sends requests,
//! the one that accepted it sends responses. On a lane for messages both send: an answer that
//! takes the way back carries the acknowledgement of the question, which on a lane of its own would
//! be a segment more in each direction.

/// Bytes of a frame header.
pub(crate) const HEADER: usize = 40;
/// Bytes of a greeting.
pub(crate) const GREETING: usize = 32;
/// Bytes of the answer to a greeting.
pub(crate) const ANSWER: usize = 16;
/// Most bytes of a message.
pub(crate) const MAX_MESSAGE: u64 = 4 << 20;
/// Most bytes of a remote memory access.
pub(crate) const MAX_RMA: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"DAOS/tcp";
/// Of answers; another one, since a socket that dials a free local port may be connected to
/// itself and must not take its own greeting for an answer.
const ANSWER_MAGIC: &[u8; 8] = b"DAOS/ack";
const VERSION: u8 = 1;

/// Why received bytes are not what the protocol allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What a lane carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum LaneKind {
    /// Tagged messages.
    Message = 1,
    /// Remote memory access.
    Rma = 2,
}

/// First bytes on a lane, from the endpoint that dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Greeting {
    pub(crate) lane: LaneKind,
    /// Incarnation of the endpoint that is meant.
    pub(crate) target: u64,
    /// Incarnation of the endpoint that dials: messages to it may take this lane.
    pub(crate) source: u64,
}

impl Greeting {
    pub(crate) fn encode(&self) -> [u8; GREETING] {
        let mut bytes = [0; GREETING];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = VERSION;
        bytes[9] = self.lane as u8;
        bytes[16..24].copy_from_slice(&self.target.to_le_bytes());
        bytes[24..].copy_from_slice(&self.source.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; GREETING]) -> Result<Self, Malformed> {
        if &bytes[..8] != MAGIC {
            return Err(Malformed("the greeting is not of this protocol"));
        }
        if bytes[8] != VERSION {
            return Err(Malformed("the greeting is of another protocol version"));
        }
        if bytes[10..16] != [0; 6] {
            return Err(Malformed("reserved bytes of the greeting are not zero"));
        }
        let lane = match bytes[9] {
            1 => LaneKind::Message,
            2 => LaneKind::Rma,
            _ => return Err(Malformed("the greeting names an unknown kind of lane")),
        };
        Ok(Self {
            lane,
            target: number(bytes, 16),
            source: number(bytes, 24),
        })
    }
}

/// Answer to a greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// This is the endpoint that was meant.
    Welcome,
    /// Somebody else lives here now.
    NotMe,
}

impl Answer {
    pub(crate) fn encode(self) -> [u8; ANSWER] {
        let mut bytes = [0; ANSWER];
        bytes[..8].copy_from_slice(ANSWER_MAGIC);
        bytes[8] = VERSION;
        bytes[9] = match self {
            Self::Welcome => 1,
            Self::NotMe => 2,
        };
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ANSWER]) -> Result<Self, Malformed> {
        if &bytes[..8] != ANSWER_MAGIC || bytes[8] != VERSION || bytes[10..] != [0; 6] {
            return Err(Malformed("the answer is not of this protocol"));
        }
        match bytes[9] {
            1 => Ok(Self::Welcome),
            2 => Ok(Self::NotMe),
            _ => Err(Malformed("the answer has an unknown verdict")),
        }
    }
}

/// Outcome of a remote memory access, as the target reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Done.
    Done,
    /// Refused: key, range, rights, or unregistered meanwhile.
    Refused,
}

/// A frame's header. Where a field is not named by the kind, it is zero on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Header {
    /// `len` bytes of message follow.
    Message { tag: u64, len: u64 },
    /// Asks for `len` bytes at `addr` of the region `key`.
    Read {
        id: u64,
        addr: u64,
        key: u64,
        len: u64,
    },
    /// `len` bytes for `addr` of the region `key` follow.
    Write {
        id: u64,
        addr: u64,
        key: u64,
        len: u64,
    },
    /// `len` bytes follow: the whole answer to a READ. Whether they count is said by the
    /// [`Header::ReadDone`] behind them: the region may be unregistered half-way.
    ReadData { id: u64, len: u64 },
    /// End of a READ.
    ReadDone { id: u64, verdict: Verdict },
    /// End of a WRITE.
    WriteDone { id: u64, verdict: Verdict },
}

impl Header {
    /// Layout: kind, 3 zeroes, verdict (u32), id, length, tag or address, key.
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let (kind, verdict, id, len, place, key) = match *self {
            Self::Message { tag, len } => (1, 0, 0, len, tag, 0),
            Self::Read { id, addr, key, len } => (2, 0, id, len, addr, key),
            Self::Write { id, addr, key, len } => (3, 0, id, len, addr, key),
            Self::ReadData { id, len } => (4, 0, id, len, 0, 0),
            Self::ReadDone { id, verdict } => (5, verdict as u32, id, 0, 0, 0),
            Self::WriteDone { id, verdict } => (6, verdict as u32, id, 0, 0, 0),
        };
        let mut bytes = [0; HEADER];
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&verdict.to_le_bytes());
        for (place, value) in bytes[8..].chunks_exact_mut(8).zip([id, len, place, key]) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Result<Self, Malformed> {
        if bytes[1..4] != [0; 3] {
            return Err(Malformed("reserved bytes of a frame are not zero"));
        }
        let verdict = match u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) {
            0 => Verdict::Done,
            1 => Verdict::Refused,
            _ => return Err(Malformed("a frame has an unknown verdict")),
        };
        let id = number(bytes, 8);
        let len = number(bytes, 16);
        let place = number(bytes, 24);
        let key = number(bytes, 32);
        let (header, limit) = match bytes[0] {
            1 => (Self::Message { tag: place, len }, MAX_MESSAGE),
            2 => (
                Self::Read {
                    id,
                    addr: place,
                    key,
                    len,
                },
                MAX_RMA,
            ),
            3 => (
                Self::Write {
                    id,
                    addr: place,
                    key,
                    len,
                },
                MAX_RMA,
            ),
            4 => (Self::ReadData { id, len }, MAX_RMA),
            5 => (Self::ReadDone { id, verdict }, 0),
            6 => (Self::WriteDone { id, verdict }, 0),
            _ => return Err(Malformed("a frame is of an unknown kind")),
        };
        if len > limit {
            return Err(Malformed("a frame is longer than allowed"));
        }
        if header.encode() != *bytes {
            return Err(Malformed("unused fields of a frame are not zero"));
        }
        Ok(header)
    }

    /// Bytes that follow the header.
    pub(crate) fn payload(&self) -> u64 {
        match *self {
            Self::Message { len, .. } | Self::Write { len, .. } | Self::ReadData { len, .. } => len,
            Self::Read { .. } | Self::ReadDone { .. } | Self::WriteDone { .. } => 0,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = Header> {
        let verdict = prop_oneof![Just(Verdict::Done), Just(Verdict::Refused)];
        prop_oneof![
            (any::<u64>(), 0..=MAX_MESSAGE).prop_map(|(tag, len)| Header::Message { tag, len }),
            (any::<[u64; 3]>(), 0..=MAX_RMA).prop_map(|([id, addr, key], len)| Header::Read {
                id,
                addr,
                key,
                len
            }),
            (any::<[u64; 3]>(), 0..=MAX_RMA).prop_map(|([id, addr, key], len)| Header::Write {
                id,
                addr,
                key,
                len
            }),
            (any::<u64>(), 0..=MAX_RMA).prop_map(|(id, len)| Header::ReadData { id, len }),
            (any::<u64>(), verdict.clone())
                .prop_map(|(id, verdict)| Header::ReadDone { id, verdict }),
            (any::<u64>(), verdict).prop_map(|(id, verdict)| Header::WriteDone { id, verdict }),
        ]
    }

    proptest! {
        #[test]
        fn headers_survive_the_trip(header in header()) {
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn what_is_accepted_is_canonical(bytes in any::<[u8; HEADER]>()) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
                prop_assert!(header.payload() <= MAX_RMA);
            }
        }

        #[test]
        fn one_changed_byte_is_another_frame_or_none(
            header in header(), at in 0..HEADER, change in 1u8..
        ) {
            let mut bytes = header.encode();
            bytes[at] ^= change;
            prop_assert_ne!(Header::decode(&bytes), Ok(header));
        }

        #[test]
        fn greetings_survive_the_trip(target: u64, source: u64, rma: bool) {
            let lane = if rma { LaneKind::Rma } else { LaneKind::Message };
            let greeting = Greeting { lane, target, source };
            prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
        }

        #[test]
        fn foreign_greetings_are_refused(bytes in any::<[u8; GREETING]>()) {
            prop_assert!(Greeting::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused() {
        for header in [
            Header::Message {
                tag: 1,
                len: MAX_MESSAGE + 1,
            },
            Header::ReadData {
                id: 1,
                len: MAX_RMA + 1,
            },
            Header::Write {
                id: 1,
                addr: 0,
                key: 0,
                len: u64::MAX,
            },
        ] {
            assert!(Header::decode(&header.encode()).is_err(), "{header:?}");
        }
    }

    #[test]
    fn answers_survive_the_trip() {
        for answer in [Answer::Welcome, Answer::NotMe] {
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
        assert!(Answer::decode(&[0; ANSWER]).is_err());
        let greeting = Greeting {
            lane: LaneKind::Message,
            target: 1,
            source: 2,
        }
        .encode();
        assert!(Answer::decode(greeting.first_chunk().unwrap()).is_err());
    }
}
