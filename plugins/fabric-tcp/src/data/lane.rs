//! One connection: what has arrived, what is to be sent, what it waits for.

use super::frame::{GREETING, HEADER, Header, LaneKind};
use super::matching::Posted;
use super::memory::Span;
use super::region::Region;
use super::slots::Id;
use nix::sys::epoll::EpollFlags;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::Arc;

/// Bytes that one lane holds of its stream before they find their place: room for a few small
/// frames. Payloads beyond it go from the socket straight to their destination.
const INBOX: usize = 8 << 10;

/// How many of them are received at once on a lane for remote memory access: a dozen headers. What is
/// taken beyond those is payload, which would be copied to its destination instead of going there.
const RMA_INBOX: usize = 512;

/// Where a lane stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Dialled; the kernel has not connected it yet.
    Connecting,
    /// Waits for the peer's answer (dialled) or greeting (accepted).
    Greeting,
    /// Carries frames.
    Open,
}

/// Which end of a lane this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// This endpoint dialled: it sends requests to the peer and reads responses, or messages.
    Dialled { peer: Id, kind: LaneKind },
    /// Somebody dialled this endpoint: it reads requests and sends responses, or messages. The
    /// kind is known from the greeting on.
    Accepted { kind: Option<LaneKind> },
}

/// Where the payload of an incoming frame goes.
pub(crate) enum Target {
    /// Into the memory of a RECV.
    Receive(Posted),
    /// Into a message held for a later RECV; the number is the matcher's.
    Held(u64),
    /// Into registered memory, from this offset; `alive` until the region is found gone.
    Region {
        region: Arc<Region>,
        offset: usize,
        alive: bool,
    },
    /// Into the memory of a READ of this endpoint.
    Read(Span),
    /// Nowhere: nobody wants it, but the stream must go on.
    Discard,
}

/// A frame whose payload is on its way in.
pub(crate) struct Incoming {
    pub(crate) header: Header,
    pub(crate) target: Target,
    /// Payload bytes that have arrived.
    pub(crate) filled: usize,
}

impl Incoming {
    pub(crate) fn remaining(&self) -> usize {
        self.header.payload() as usize - self.filled
    }
}

/// Bytes of the stream that are not yet processed.
pub(crate) struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn new() -> Self {
        Self {
            bytes: vec![0; INBOX].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn staged(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// A record of fixed length at the front, if it is complete.
    pub(crate) fn peek<const N: usize>(&self) -> Option<&[u8; N]> {
        self.staged().first_chunk()
    }

    /// Free room, at most `most` bytes, for a receive; what arrived is announced with
    /// [`Inbox::filled`].
    pub(crate) fn room(&mut self, most: usize) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = &mut self.bytes[self.end..];
        let most = most.min(room.len());
        &mut room[..most]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

/// What follows the header of an outgoing frame.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// The host's memory of a SEND or WRITE.
    Memory(Span),
    /// Registered memory that a peer reads; the next frame in the outbox is its ReadDone.
    Region {
        region: Arc<Region>,
        offset: usize,
        len: usize,
    },
    /// This many zeroes, in place of a region that was unregistered after its frame had begun.
    Zeroes(usize),
}

impl Body {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Memory(span) => span.len(),
            Self::Region { len, .. } | Self::Zeroes(len) => *len,
        }
    }
}

/// A frame to be sent.
pub(crate) struct Outgoing {
    pub(crate) header: [u8; HEADER],
    pub(crate) body: Body,
    /// Operation of this endpoint that it belongs to; `None` for responses.
    pub(crate) operation: Option<Id>,
}

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        HEADER + self.body.len()
    }

    /// A response without payload.
    pub(crate) fn response(header: Header) -> Self {
        Self {
            header: header.encode(),
            body: Body::Empty,
            operation: None,
        }
    }
}

/// One connection.
pub(crate) struct Lane {
    pub(crate) stream: TcpStream,
    pub(crate) end: End,
    pub(crate) state: State,
    pub(crate) inbox: Inbox,
    pub(crate) incoming: Option<Incoming>,
    /// A message that met neither a RECV nor room to hold it: nothing more is read from this
    /// lane until it found one of them.
    pub(crate) stalled: Option<Header>,
    /// Too many responses wait to be sent: no more requests are read until they are.
    pub(crate) choked: bool,
    pub(crate) outbox: VecDeque<Outgoing>,
    /// Bytes of the first frame in the outbox that the kernel has.
    pub(crate) sent: usize,
    /// What epoll watches; `None` when the lane is not registered.
    pub(crate) watched: Option<EpollFlags>,
    /// Accepted, for messages: incarnation of the endpoint that dialled.
    pub(crate) source: Option<u64>,
    /// Accepted, for messages: the peer to whom this endpoint sends on it.
    pub(crate) back_to: Option<Id>,
    /// Listed for a flush at the end of the current submission.
    pub(crate) dirty: bool,
    /// Listed for processing at the next poll whatever epoll says.
    pub(crate) ready: bool,
}

impl Lane {
    pub(crate) fn new(stream: TcpStream, end: End, state: State) -> Self {
        Self {
            stream,
            end,
            state,
            inbox: Inbox::new(),
            incoming: None,
            stalled: None,
            choked: false,
            outbox: VecDeque::new(),
            sent: 0,
            watched: None,
            source: None,
            back_to: None,
            dirty: false,
            ready: false,
        }
    }

    /// What epoll has to watch for this lane to go on; `None` = nothing. A lane with nothing to
    /// watch leaves epoll altogether, since a hang-up is reported whatever is asked for.
    pub(crate) fn interest(&self) -> Option<EpollFlags> {
        let mut flags = EpollFlags::empty();
        if self.state == State::Connecting {
            flags |= EpollFlags::EPOLLOUT;
        } else {
            flags.set(EpollFlags::EPOLLIN, self.stalled.is_none() && !self.choked);
            flags.set(
                EpollFlags::EPOLLOUT,
                self.state == State::Open && !self.outbox.is_empty(),
            );
        }
        (!flags.is_empty()).then_some(flags)
    }

    /// How much of its stream to receive at once before it is known what it is.
    pub(crate) fn appetite(&self) -> usize {
        match self.end {
            End::Dialled {
                kind: LaneKind::Rma,
                ..
            }
            | End::Accepted {
                kind: Some(LaneKind::Rma),
            } => RMA_INBOX,
            _ => INBOX,
        }
    }

    /// Whether it was accepted and has not introduced itself.
    pub(crate) fn is_stranger(&self) -> bool {
        self.end == End::Accepted { kind: None }
    }

    /// Takes a frame out of the outbox that has not begun to be sent; `false` if it has.
    pub(crate) fn withdraw(&mut self, operation: Id) -> bool {
        let position = self
            .outbox
            .iter()
            .position(|frame| frame.operation == Some(operation));
        match position {
            Some(0) if self.sent > 0 => false,
            Some(at) => {
                self.outbox.remove(at);
                true
            }
            None => false,
        }
    }
}

const _: () = assert!(GREETING <= RMA_INBOX && HEADER <= RMA_INBOX && RMA_INBOX <= INBOX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_makes_room_without_losing_bytes() {
        let mut inbox = Inbox::new();
        let room = inbox.room(INBOX).len();
        assert_eq!(room, INBOX);
        assert_eq!(inbox.room(7).len(), 7);
        inbox.room(INBOX)[..5].copy_from_slice(b"hello");
        inbox.filled(5);
        assert_eq!(inbox.peek::<6>(), None);
        assert_eq!(inbox.peek::<2>(), Some(b"he"));
        inbox.consume(2);
        assert_eq!(inbox.staged(), b"llo");
        assert_eq!(inbox.room(INBOX).len(), room - 3);
        assert_eq!(inbox.staged(), b"llo");
        inbox.consume(3);
        assert_eq!(inbox.room(INBOX).len(), room);
    }
}
