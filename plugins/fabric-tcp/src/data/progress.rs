//! Life of connections: dialling, accepting, serving what epoll reports, and their end.

use super::endpoint::TcpEndpoint;
use super::frame::{Answer, Greeting, LaneKind, Malformed};
use super::lane::{End, Incoming, Lane, State, Target};
use super::memory::Gather;
use super::slots::Id;
use super::socket;
use daos_plugin_api::abi::Status;
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;

/// What epoll reports the listener as; no lane has this number.
pub(super) const LISTENER: u64 = 0;
/// Accepted connections that may take their time to introduce themselves.
const MAX_STRANGERS: usize = 64;

/// Why a lane ends.
#[derive(Debug)]
pub(super) enum Loss {
    /// The peer closed it.
    Closed,
    /// The peer is not the one that was meant.
    NotMe,
    /// The peer does not keep to the protocol.
    Malformed(Malformed),
    /// The kernel reports an error.
    Io(io::Error),
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for Loss {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<Malformed> for Loss {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl TcpEndpoint {
    /// Serves every lane that can go on, once.
    pub(super) fn progress(&mut self) -> Result<(), Status> {
        for _ in 0..self.ready.len() {
            if let Some(id) = self.ready.pop_front() {
                if let Some(lane) = self.lanes.get_mut(id) {
                    lane.ready = false;
                }
                self.serve(id, EpollFlags::EPOLLIN);
            }
        }
        let mut events = std::mem::take(&mut self.events);
        let waited = self.epoll.wait(&mut events, EpollTimeout::ZERO);
        let count = match waited {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => {
                tracing::error!(%error, "epoll_wait failed");
                self.events = events;
                return Err(Status::IO);
            }
        };
        self.unseen = count == events.len();
        for event in &events[..count] {
            match event.data() {
                LISTENER => self.accept(),
                lane => self.serve(Id::from_raw(lane), event.events()),
            }
        }
        self.events = events;
        Ok(())
    }

    fn serve(&mut self, id: Id, events: EpollFlags) {
        let Some(mut lane) = self.lanes.take(id) else {
            return; // ended by an earlier event of this round
        };
        match self.work(id, &mut lane, events) {
            Ok(()) => self.lanes.put(id, lane),
            Err(loss) => self.lose(id, *lane, &loss),
        }
    }

    fn work(&mut self, id: Id, lane: &mut Lane, events: EpollFlags) -> Result<(), Loss> {
        if lane.state == State::Connecting {
            self.greet(lane)?;
        } else {
            if events.contains(EpollFlags::EPOLLOUT) {
                self.transmit(id, lane)?;
            }
            if events.intersects(!EpollFlags::EPOLLOUT) {
                self.read(id, lane)?;
            }
            if lane.state == State::Open && !lane.outbox.is_empty() {
                self.transmit(id, lane)?;
            }
        }
        self.watch(id, lane)
    }

    /// Sends what a submission added to a lane.
    pub(super) fn flush(&mut self, id: Id) {
        let Some(mut lane) = self.lanes.take(id) else {
            return;
        };
        lane.dirty = false;
        let result = match lane.state {
            State::Open => self
                .transmit(id, &mut lane)
                .and_then(|()| self.watch(id, &mut lane)),
            State::Connecting | State::Greeting => Ok(()),
        };
        match result {
            Ok(()) => self.lanes.put(id, lane),
            Err(loss) => self.lose(id, *lane, &loss),
        }
    }

    /// Tells epoll what the lane waits for now.
    pub(super) fn watch(&self, id: Id, lane: &mut Lane) -> Result<(), Loss> {
        let wanted = lane.interest();
        if wanted != lane.watched {
            let fd = lane.stream.as_fd();
            match (lane.watched, wanted) {
                (None, Some(flags)) => self.epoll.add(fd, EpollEvent::new(flags, id.raw()))?,
                (Some(_), Some(flags)) => {
                    self.epoll
                        .modify(fd, &mut EpollEvent::new(flags, id.raw()))?;
                }
                (Some(_), None) => self.epoll.delete(fd)?,
                (None, None) => {}
            }
            lane.watched = wanted;
        }
        Ok(())
    }

    /// The lane to a peer, dialled if there is none.
    pub(super) fn lane_to(&mut self, peer: Id, kind: LaneKind) -> Result<Id, Status> {
        let known = self.peers.get_mut(peer).ok_or(Status::NOT_FOUND)?;
        if let Some(lane) = *known.lane(kind) {
            return Ok(lane);
        }
        if kind == LaneKind::Message
            && let Some(&id) = self.by_source.get(&known.address.incarnation)
            && let Some(lane) = self.lanes.get_mut(id)
            && lane.back_to.is_none()
            && lane.stream.peer_addr().map(|from| from.ip()).ok() == Some(known.address.socket.ip())
        {
            lane.back_to = Some(peer);
            known.message = Some(id);
            return Ok(id);
        }
        if self.lanes.is_full() {
            return Err(Status::NO_MEMORY);
        }
        let stream =
            socket::dial(self.address.socket.ip(), known.address.socket).map_err(|error| {
                let peer = known.address.socket;
                tracing::debug!(%peer, %error, "cannot dial");
                Status::UNREACHABLE
            })?;
        let end = End::Dialled { peer, kind };
        let mut lane = Box::new(Lane::new(stream, end, State::Connecting));
        let id = self.lanes.insert(lane).ok_or(Status::NO_MEMORY)?;
        lane = self.lanes.take(id).ok_or(Status::INTERNAL)?;
        if let Err(loss) = self.watch(id, &mut lane) {
            tracing::error!(?loss, "cannot watch a new connection");
            self.lanes.retire(id);
            return Err(Status::IO);
        }
        self.lanes.put(id, lane);
        if let Some(known) = self.peers.get_mut(peer) {
            *known.lane(kind) = Some(id);
        }
        Ok(id)
    }

    /// A dialled connection is up, or failed: introduces this endpoint.
    fn greet(&mut self, lane: &mut Lane) -> Result<(), Loss> {
        if let Some(error) = lane.stream.take_error()? {
            return Err(error.into());
        }
        let End::Dialled { peer, kind } = lane.end else {
            return Ok(());
        };
        socket::connected(&lane.stream, self.domain.limits.peer_timeout)?;
        let target = self
            .peers
            .get(peer)
            .map_or(0, |peer| peer.address.incarnation);
        let greeting = Greeting {
            lane: kind,
            target,
            source: self.address.incarnation,
        };
        send_whole(lane, &greeting.encode())?;
        lane.state = State::Greeting;
        Ok(())
    }

    /// The dialled peer has answered.
    pub(super) fn answered(&mut self, lane: &mut Lane, answer: Answer) -> Result<(), Loss> {
        match answer {
            Answer::Welcome => {
                lane.state = State::Open;
                Ok(())
            }
            Answer::NotMe => Err(Loss::NotMe),
        }
    }

    /// A stranger has introduced itself.
    pub(super) fn introduced(
        &mut self,
        id: Id,
        lane: &mut Lane,
        greeting: Greeting,
    ) -> Result<(), Loss> {
        if greeting.target != self.address.incarnation {
            send_whole(lane, &Answer::NotMe.encode())?;
            return Err(Loss::NotMe);
        }
        send_whole(lane, &Answer::Welcome.encode())?;
        let kind = Some(greeting.lane);
        lane.end = End::Accepted { kind };
        lane.state = State::Open;
        if greeting.lane == LaneKind::Message {
            lane.source = Some(greeting.source);
            self.by_source.insert(greeting.source, id);
        }
        Ok(())
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((stream, from)) => {
                    if let Err(error) = self.admit_stranger(stream) {
                        tracing::warn!(%from, ?error, "cannot accept a connection");
                    }
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return,
                    Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                        // Asking again at once would fail again: wait until a lane ends.
                        tracing::error!(%error, "cannot accept connections for now");
                        self.deaf = self.epoll.delete(self.listener.as_fd()).is_ok();
                        return;
                    }
                    // The connection broke before it was accepted; the next one may be fine.
                    _ => tracing::debug!(%error, "accept failed"),
                },
            }
        }
    }

    fn admit_stranger(&mut self, stream: TcpStream) -> Result<(), Loss> {
        while self.strangers.len() >= MAX_STRANGERS {
            if let Some(oldest) = self.strangers.pop_front()
                && self
                    .lanes
                    .get(oldest)
                    .is_some_and(|lane| lane.is_stranger())
            {
                self.lanes.remove(oldest);
            }
        }
        socket::accepted(&stream, self.domain.limits.peer_timeout)?;
        let mut lane = Box::new(Lane::new(
            stream,
            End::Accepted { kind: None },
            State::Greeting,
        ));
        // The number is needed to watch the lane, so it is taken out again at once.
        let full = || io::Error::other("too many connections");
        let id = self.lanes.insert(lane).ok_or_else(full)?;
        lane = self.lanes.take(id).ok_or_else(full)?;
        if let Err(loss) = self.watch(id, &mut lane) {
            self.lanes.retire(id);
            return Err(loss);
        }
        self.lanes.put(id, lane);
        self.strangers.push_back(id);
        Ok(())
    }

    fn lose(&mut self, id: Id, lane: Lane, loss: &Loss) {
        let peer = lane.stream.peer_addr().ok();
        match loss {
            Loss::Closed => tracing::debug!(?peer, "connection closed by the peer"),
            Loss::NotMe => tracing::debug!(?peer, "the endpoint that was meant is gone"),
            Loss::Io(error) => tracing::debug!(?peer, %error, "connection lost"),
            Loss::Malformed(Malformed(why)) => {
                tracing::warn!(?peer, "connection closed: {why}");
            }
        }
        self.end_lane(id, lane, Status::UNREACHABLE);
    }

    /// Closes a lane that was taken from the table; its operations complete with `status`.
    pub(super) fn end_lane(&mut self, id: Id, lane: Lane, status: Status) {
        self.lanes.retire(id);
        self.stalled.retain(|&other| other != id);
        if lane.is_stranger() {
            self.strangers.retain(|&other| other != id);
        }
        if let End::Dialled { peer, kind } = lane.end
            && let Some(peer) = self.peers.get_mut(peer)
        {
            *peer.lane(kind) = None;
        }
        if let Some(source) = lane.source
            && self.by_source.get(&source) == Some(&id)
        {
            self.by_source.remove(&source);
        }
        if let Some(peer) = lane.back_to
            && let Some(peer) = self.peers.get_mut(peer)
        {
            peer.message = None;
        }
        let Lane {
            stream,
            incoming,
            outbox,
            ..
        } = lane;
        // Closing takes the socket out of epoll; from here on nothing touches any memory.
        drop((stream, outbox));
        let ended = self.operations.fail_lane(id, status);
        self.done.extend(ended);
        match incoming {
            Some(Incoming {
                target: Target::Receive(posted),
                ..
            }) => self.bereave(posted),
            Some(Incoming {
                target: Target::Held(number),
                ..
            }) => {
                let claimed = self.matcher.break_off(number);
                self.admit_stalled();
                if let Some(posted) = claimed {
                    self.bereave(posted);
                }
            }
            _ => {}
        }
        if self.deaf {
            let listener = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            self.deaf = self.epoll.add(self.listener.as_fd(), listener).is_err();
        }
    }
}

/// Sends a few bytes on a connection that has carried nothing yet: they always fit.
fn send_whole(lane: &Lane, bytes: &[u8]) -> Result<(), Loss> {
    let mut gather = Gather::new();
    gather.slice(bytes);
    if gather.send(lane.stream.as_fd())? == bytes.len() {
        Ok(())
    } else {
        Err(io::Error::other("a new connection took less than a greeting").into())
    }
}
