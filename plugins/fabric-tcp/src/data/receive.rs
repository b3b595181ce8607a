//! The way in: from the socket through the inbox or straight to a frame's destination.

use super::endpoint::TcpEndpoint;
use super::frame::{Answer, Greeting, Header, LaneKind, Malformed, Verdict};
use super::lane::{Body, End, Incoming, Lane, Outgoing, State, Target};
use super::memory::{nowhere, receive, receive_own};
use super::operations::Progress;
use super::progress::Loss;
use super::slots::Id;
use daos_plugin_api::abi::{FabricOp, Status};
use std::io::ErrorKind;
use std::os::fd::AsFd;

/// Bytes that one lane may bring in per poll before the others have their turn.
const TURN: usize = 1 << 20;
/// Most bytes that one system call moves: how long a region can be locked.
const STRIDE: usize = 512 << 10;
/// Responses that may wait on a lane before its requests have to.
pub(super) const MAX_RESPONSES: usize = 1024;

impl TcpEndpoint {
    /// Reads and processes what the lane's socket has, one turn of it.
    pub(super) fn read(&mut self, id: Id, lane: &mut Lane) -> Result<(), Loss> {
        let mut turn = TURN;
        loop {
            self.digest(id, lane)?;
            if lane.stalled.is_some() || lane.choked {
                return Ok(());
            }
            if turn == 0 {
                self.go_on(id, lane);
                return Ok(());
            }
            let (asked, got) = match self.fetch(lane) {
                Ok(counts) => counts,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            if got == 0 {
                return Err(Loss::Closed);
            }
            turn = turn.saturating_sub(got);
            if got < asked {
                // The socket is empty; whatever comes later, epoll announces.
                return self.digest(id, lane);
            }
        }
    }

    /// One receive. The inbox holds at most an incomplete header, nothing while a payload is on
    /// its way. Returns how many bytes were asked for and how many came.
    fn fetch(&mut self, lane: &mut Lane) -> std::io::Result<(usize, usize)> {
        let appetite = lane.appetite();
        let socket = lane.stream.as_fd();
        let Some(incoming) = &mut lane.incoming else {
            let room = lane.inbox.room(appetite);
            let asked = room.len();
            let got = receive(socket, nowhere(), room)?;
            lane.inbox.filled(got);
            return Ok((asked, got));
        };
        let remaining = incoming.remaining();
        let filled = incoming.filled;
        let stride = remaining.min(STRIDE);
        let window = match &incoming.target {
            Target::Receive(posted) => posted.memory.skip(filled).first(stride).len(),
            Target::Region { alive: true, .. } | Target::Read(_) => stride,
            Target::Held(_) | Target::Discard | Target::Region { alive: false, .. } => 0,
        };
        if window == 0 {
            let scratch = stride.min(self.discard.len());
            let got = receive_own(socket, &mut self.discard[..scratch], &mut [])?;
            if let Target::Held(number) = incoming.target
                && let Some(held) = self.matcher.arriving(number)
            {
                held.extend_from_slice(&self.discard[..got]);
            }
            incoming.filled += got;
            return Ok((scratch, got));
        }
        // The frame behind a payload often comes with it: take it in the same call.
        let room = if window == remaining {
            lane.inbox.room(appetite)
        } else {
            &mut []
        };
        let asked = window + room.len();
        let got = match &mut incoming.target {
            Target::Receive(posted) => {
                receive(socket, posted.memory.skip(filled).first(window), room)?
            }
            Target::Read(memory) => receive(socket, memory.skip(filled).first(window), room)?,
            Target::Region {
                region,
                offset,
                alive,
            } => {
                let place = *offset + filled;
                match region.with(|memory| receive(socket, memory.skip(place).first(window), room))
                {
                    Some(got) => got?,
                    None => {
                        *alive = false;
                        return Err(ErrorKind::WouldBlock.into());
                    }
                }
            }
            Target::Held(_) | Target::Discard => 0,
        };
        incoming.filled += got.min(window);
        lane.inbox.filled(got.saturating_sub(window));
        Ok((asked, got))
    }

    /// Processes the inbox until it needs more bytes or the lane has to wait.
    fn digest(&mut self, id: Id, lane: &mut Lane) -> Result<(), Loss> {
        while lane.stalled.is_none() && !lane.choked {
            if let Some(mut incoming) = lane.incoming.take() {
                let count = incoming.remaining().min(lane.inbox.len());
                self.place(&mut incoming, &lane.inbox.staged()[..count]);
                lane.inbox.consume(count);
                if incoming.remaining() > 0 {
                    lane.incoming = Some(incoming);
                    return Ok(());
                }
                self.complete(lane, incoming);
                continue;
            }
            match (lane.state, lane.end) {
                (State::Connecting, _) => return Ok(()),
                (State::Greeting, End::Dialled { .. }) => {
                    let Some(bytes) = lane.inbox.peek() else {
                        return Ok(());
                    };
                    let answer = Answer::decode(bytes)?;
                    lane.inbox.consume(super::frame::ANSWER);
                    self.answered(lane, answer)?;
                }
                (State::Greeting, End::Accepted { .. }) => {
                    let Some(bytes) = lane.inbox.peek() else {
                        return Ok(());
                    };
                    let greeting = Greeting::decode(bytes)?;
                    lane.inbox.consume(super::frame::GREETING);
                    self.introduced(id, lane, greeting)?;
                    self.strangers.retain(|&other| other != id);
                }
                (State::Open, _) => {
                    let Some(bytes) = lane.inbox.peek() else {
                        return Ok(());
                    };
                    let header = Header::decode(bytes)?;
                    // Only what asks for responses: two ends that stop reading messages until
                    // theirs are read would wait for each other.
                    let kind = Some(LaneKind::Rma);
                    if lane.outbox.len() >= MAX_RESPONSES && lane.end == (End::Accepted { kind }) {
                        lane.choked = true;
                        return Ok(());
                    }
                    lane.inbox.consume(super::frame::HEADER);
                    self.begin(id, lane, header)?;
                }
            }
        }
        Ok(())
    }

    /// Puts payload bytes from the inbox where they belong.
    fn place(&mut self, incoming: &mut Incoming, bytes: &[u8]) {
        let filled = incoming.filled;
        match &mut incoming.target {
            Target::Receive(posted) => posted.memory.skip(filled).fill(bytes),
            Target::Held(number) => {
                if let Some(held) = self.matcher.arriving(*number) {
                    held.extend_from_slice(bytes);
                }
            }
            Target::Region {
                region,
                offset,
                alive,
            } => {
                let place = *offset + filled;
                *alive &= region
                    .with(|memory| memory.skip(place).fill(bytes))
                    .is_some();
            }
            Target::Read(memory) => memory.skip(filled).fill(bytes),
            Target::Discard => {}
        }
        incoming.filled += bytes.len();
    }

    /// A header has arrived.
    fn begin(&mut self, id: Id, lane: &mut Lane, header: Header) -> Result<(), Loss> {
        let kind = match lane.end {
            End::Dialled { kind, .. } => kind,
            End::Accepted { kind } => kind.unwrap_or(LaneKind::Message),
        };
        let is_accepted = matches!(lane.end, End::Accepted { .. });
        match (is_accepted, kind, header) {
            (_, LaneKind::Message, Header::Message { tag, len }) => {
                match self.admit(id, tag, len) {
                    Some(target) => lane.incoming = Some(arriving(header, target)),
                    None => {
                        lane.stalled = Some(header);
                        self.stalled.push_back(id);
                    }
                }
            }
            (true, LaneKind::Rma, Header::Read { id, addr, key, len }) => {
                self.answer_read(lane, id, addr, key, len);
            }
            (true, LaneKind::Rma, Header::Write { addr, key, len, .. }) => {
                let target = match self.domain.regions.writable(key, addr, len) {
                    Some(region) => Target::Region {
                        region,
                        offset: addr as usize,
                        alive: true,
                    },
                    None => Target::Discard,
                };
                lane.incoming = Some(arriving(header, target));
            }
            (false, LaneKind::Rma, Header::ReadData { id: operation, len }) => {
                let target = self.data_target(id, Id::from_raw(operation), len)?;
                lane.incoming = Some(arriving(header, target));
            }
            (
                false,
                LaneKind::Rma,
                Header::ReadDone {
                    id: operation,
                    verdict,
                },
            ) => {
                self.end_access(id, Id::from_raw(operation), FabricOp::READ, verdict)?;
            }
            (
                false,
                LaneKind::Rma,
                Header::WriteDone {
                    id: operation,
                    verdict,
                },
            ) => {
                self.end_access(id, Id::from_raw(operation), FabricOp::WRITE, verdict)?;
            }
            _ => return Err(Malformed("a frame does not belong on this kind of lane").into()),
        }
        Ok(())
    }

    /// All of a payload has arrived.
    fn complete(&mut self, lane: &mut Lane, incoming: Incoming) {
        match (incoming.header, incoming.target) {
            (Header::Message { tag, len }, Target::Receive(posted)) => {
                self.received(&posted, tag, len as usize);
            }
            (Header::Message { .. }, Target::Held(number)) => {
                if let Some(delivery) = self.matcher.arrived(number) {
                    self.deliver(delivery);
                }
            }
            (Header::Write { id, .. }, target) => {
                let verdict = match target {
                    Target::Region { alive: true, .. } => Verdict::Done,
                    _ => Verdict::Refused,
                };
                let done = Header::WriteDone { id, verdict };
                lane.outbox.push_back(Outgoing::response(done));
            }
            (Header::ReadData { id, .. }, Target::Read(_)) => {
                if let Some(operation) = self.operations.get_mut(Id::from_raw(id)) {
                    operation.progress = Progress::DataIn;
                }
            }
            _ => {}
        }
    }

    /// Finds a place for a message: a RECV, or memory to hold it.
    fn admit(&mut self, lane: Id, tag: u64, len: u64) -> Option<Target> {
        if let Some(posted) = self.matcher.take(tag) {
            return Some(Target::Receive(posted));
        }
        self.matcher.hold(lane, tag, len as usize).map(Target::Held)
    }

    /// Memory for held messages was freed: lets stalled lanes go on, in their order, as far as
    /// it goes.
    pub(super) fn admit_stalled(&mut self) {
        let mut at = 0;
        while let Some(&id) = self.stalled.get(at) {
            let header = self.lanes.get(id).and_then(|lane| lane.stalled);
            let Some(Header::Message { tag, len }) = header else {
                at += 1;
                continue;
            };
            match self.matcher.hold(id, tag, len as usize) {
                Some(number) => {
                    self.stalled.remove(at);
                    self.resume(id, Target::Held(number));
                }
                None => at += 1,
            }
        }
    }

    /// Lets a stalled lane go on: its message has found a place.
    pub(super) fn resume(&mut self, id: Id, target: Target) {
        if let Some(lane) = self.lanes.get_mut(id)
            && let Some(header) = lane.stalled.take()
        {
            lane.incoming = Some(arriving(header, target));
            // Its inbox may hold more than epoll can know of.
            if !lane.ready {
                lane.ready = true;
                self.ready.push_back(id);
            }
        }
    }

    fn answer_read(&mut self, lane: &mut Lane, id: u64, addr: u64, key: u64, len: u64) {
        let region = self.domain.regions.readable(key, addr, len);
        let verdict = match region {
            Some(region) => {
                if len > 0 {
                    lane.outbox.push_back(Outgoing {
                        header: Header::ReadData { id, len }.encode(),
                        body: Body::Region {
                            region,
                            offset: addr as usize,
                            len: len as usize,
                        },
                        operation: None,
                    });
                }
                Verdict::Done
            }
            None => Verdict::Refused,
        };
        let done = Header::ReadDone { id, verdict };
        lane.outbox.push_back(Outgoing::response(done));
    }

    /// Where the data of a READ goes.
    fn data_target(&mut self, lane: Id, id: Id, len: u64) -> Result<Target, Malformed> {
        let operation = self
            .operations
            .get_mut(id)
            .filter(|op| op.lane == lane && op.op == FabricOp::READ)
            .filter(|op| op.memory.len() as u64 == len)
            .ok_or(Malformed("data for a READ that was not sent"))?;
        match operation.progress {
            Progress::Sent => Ok(Target::Read(operation.memory)),
            Progress::Abandoned => Ok(Target::Discard),
            Progress::Queued | Progress::DataIn => {
                Err(Malformed("data for a READ that asked for none"))
            }
        }
    }

    /// The target of a READ or WRITE says how it ended.
    fn end_access(
        &mut self,
        lane: Id,
        id: Id,
        op: FabricOp,
        verdict: Verdict,
    ) -> Result<(), Malformed> {
        let operation = self
            .operations
            .get_mut(id)
            .filter(|operation| operation.lane == lane && operation.op == op)
            .ok_or(Malformed("an answer to no request"))?;
        let needs_data = op == FabricOp::READ && operation.memory.len() > 0;
        match operation.progress {
            Progress::Queued => return Err(Malformed("an answer before its request")),
            Progress::Sent if needs_data && verdict == Verdict::Done => {
                return Err(Malformed("a READ is said to be done without its data"));
            }
            Progress::Sent | Progress::DataIn | Progress::Abandoned => {}
        }
        let status = match verdict {
            Verdict::Done => Status::OK,
            Verdict::Refused => Status::ACCESS,
        };
        if let Some(operation) = self.operations.remove(id)
            && operation.progress != Progress::Abandoned
        {
            self.done.push_back(operation.completion(status));
        }
        Ok(())
    }
}

fn arriving(header: Header, target: Target) -> Incoming {
    Incoming {
        header,
        target,
        filled: 0,
    }
}
