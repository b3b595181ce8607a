//! The way out: from a lane's outbox into its socket.

use super::endpoint::TcpEndpoint;
use super::frame::{HEADER, Header, Verdict};
use super::lane::{Body, Lane, Outgoing};
use super::memory::Gather;
use super::operations::Progress;
use super::progress::Loss;
use super::receive::MAX_RESPONSES;
use super::slots::Id;
use daos_plugin_api::abi::{FabricOp, Status};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

/// Bytes that one lane may send before the others have their turn.
const TURN: usize = 1 << 20;
/// Most bytes that one system call moves: how long a region can be locked.
const STRIDE: usize = 512 << 10;

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// What one send came to.
enum Step {
    /// So many bytes were offered to the kernel, so many did it take.
    Sent { offered: usize, taken: usize },
    /// The region of this frame of the outbox is no longer registered.
    Gone(usize),
}

impl TcpEndpoint {
    /// Sends from the outbox until it or the turn is over or the socket is full.
    pub(super) fn transmit(&mut self, id: Id, lane: &mut Lane) -> Result<(), Loss> {
        let mut turn = TURN;
        while !lane.outbox.is_empty() && turn > 0 {
            match send_some(lane) {
                Ok(Step::Sent { offered, taken }) => {
                    self.account(lane, taken);
                    turn = turn.saturating_sub(taken);
                    if taken < offered {
                        break;
                    }
                }
                Ok(Step::Gone(at)) => blank(lane, at),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if turn == 0 && !lane.outbox.is_empty() {
            self.go_on(id, lane);
        }
        if lane.choked && lane.outbox.len() <= MAX_RESPONSES / 2 {
            lane.choked = false;
            self.go_on(id, lane);
        }
        Ok(())
    }

    /// Lets the next poll process a lane whatever epoll says. A turn that is over leaves bytes behind
    /// of which epoll has told already: hosts that wait for a change would not be woken.
    pub(super) fn go_on(&mut self, id: Id, lane: &mut Lane) {
        if !lane.ready {
            lane.ready = true;
            self.ready.push_back(id);
        }
    }

    /// The kernel has taken `count` more bytes.
    fn account(&mut self, lane: &mut Lane, count: usize) {
        lane.sent += count;
        while let Some(frame) = lane.outbox.front() {
            if lane.sent < frame.len() {
                break;
            }
            lane.sent -= frame.len();
            let operation = frame.operation;
            lane.outbox.pop_front();
            if let Some(id) = operation {
                self.request_sent(id);
            }
        }
    }

    fn request_sent(&mut self, id: Id) {
        match self.operations.get_mut(id) {
            Some(operation) if operation.op == FabricOp::SEND => {
                let sent = operation.completion(Status::OK);
                self.operations.remove(id);
                self.done.push_back(sent);
            }
            Some(operation) => operation.progress = Progress::Sent,
            None => {}
        }
    }
}

/// Offers the front of the outbox to the kernel, in one system call.
fn send_some(lane: &Lane) -> io::Result<Step> {
    let mut gather = Gather::new();
    let socket = lane.stream.as_fd();
    let mut skip = lane.sent;
    for (at, Outgoing { header, body, .. }) in lane.outbox.iter().enumerate() {
        let room = STRIDE.saturating_sub(gather.bytes());
        if !gather.has_room() || room == 0 {
            break;
        }
        gather.slice(&header[skip.min(HEADER)..]);
        skip = skip.saturating_sub(HEADER);
        let todo = body.len() - skip;
        let part = match body {
            Body::Empty => 0,
            Body::Memory(span) => {
                let part = span.skip(skip).first(room);
                gather.span(part);
                part.len()
            }
            Body::Zeroes(_) => {
                let part = todo.min(ZEROES.len());
                gather.slice(&ZEROES[..part]);
                part
            }
            Body::Region { region, offset, .. } => {
                let part = todo.min(room);
                let end = lane.outbox.get(at + 1).filter(|_| part == todo);
                // Locked for the one call, hence at most one region in it.
                let sent = region.with(|memory| {
                    gather.span(memory.skip(offset + skip).first(part));
                    if let Some(end) = end {
                        gather.slice(&end.header);
                    }
                    gather.send(socket)
                });
                let offered = gather.bytes();
                return match sent {
                    Some(taken) => taken.map(|taken| Step::Sent { offered, taken }),
                    None => Ok(Step::Gone(at)),
                };
            }
        };
        if part < todo {
            break;
        }
        skip = 0;
    }
    let offered = gather.bytes();
    let taken = gather.send(socket)?;
    Ok(Step::Sent { offered, taken })
}

/// Replaces what is left of a region that is gone: the length is promised, so zeroes are sent,
/// and the frame behind says that they do not count.
fn blank(lane: &mut Lane, at: usize) {
    if let Some(frame) = lane.outbox.get_mut(at) {
        frame.body = Body::Zeroes(frame.body.len());
    }
    if let Some(end) = lane.outbox.get_mut(at + 1)
        && let Ok(Header::ReadDone { id, .. }) = Header::decode(&end.header)
    {
        let verdict = Verdict::Refused;
        end.header = Header::ReadDone { id, verdict }.encode();
    }
}
