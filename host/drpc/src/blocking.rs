//! The calling side for threads without a runtime, such as those of an engine.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::envelope::Envelope;
use crate::frame::{Assembler, MAX_MESSAGE, MAX_PACKET, Packets};
use crate::{Error, socket};

/// How long to wait before trying again to connect to a socket whose queue is full.
const RETRY: Duration = Duration::from_millis(5);

/// A connection to a server, for one call at a time. Calls block the thread.
#[derive(Debug)]
pub struct BlockingClient {
    socket: OwnedFd,
    envelope: Envelope,
    packet: Vec<u8>,
}

/// When a call must have ended, and how long it was given.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    fn within(after: Duration) -> Self {
        Deadline {
            at: Instant::now() + after,
            after,
        }
    }
}

impl BlockingClient {
    /// Connects to `path`, waiting at most `within` for a server whose queue is full. A server that
    /// is not there is an error at once.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Timeout`].
    pub fn connect(path: &Path, within: Duration) -> Result<BlockingClient, Error> {
        let deadline = Deadline::within(within);
        let socket = loop {
            match socket::connect_to(path) {
                Ok(socket) => break socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline.at {
                        let (path, what) = (path.to_owned(), "room in the queue");
                        return Err(Error::Timeout {
                            path,
                            what,
                            after: within,
                        });
                    }
                    sleep(RETRY);
                }
                Err(error) => return Err(Error::io("connect to", path, error)),
            }
        };
        Ok(BlockingClient {
            socket,
            envelope: Envelope::new(path),
            packet: Vec::new(),
        })
    }

    /// Calls `method` of `module` with a serialized body; gives the body of the answer.
    ///
    /// # Errors
    /// [`Error::Status`] when the server refuses, [`Error::Timeout`] when it takes longer than
    /// `within`, and errors of the connection. After all but the first the connection is of no use
    /// any more ([`Error::Broken`]).
    pub fn call(
        &mut self,
        module: i32,
        method: i32,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, Error> {
        let deadline = Deadline::within(within);
        let call = self.envelope.begin(module, method, body)?;
        let mut packets = Packets::new(&call);
        while packets.next_into(&mut self.packet) {
            self.send_packet(deadline)?;
        }
        let mut assembler = Assembler::new(MAX_MESSAGE);
        // A byte more than allowed, so that a packet that is too long shows.
        self.packet.resize(MAX_PACKET + 1, 0);
        loop {
            let length = self.recv_packet(deadline)?;
            if length == 0 {
                return Err(self.closed("before it answered"));
            }
            let answer = assembler
                .push(&self.packet[..length])
                .map_err(|source| Error::Frame {
                    path: self.envelope.path.clone(),
                    source,
                })?;
            if let Some(answer) = answer {
                return self.envelope.end(module, method, &answer);
            }
        }
    }

    /// As [`BlockingClient::call`], with messages.
    ///
    /// # Errors
    /// As [`BlockingClient::call`], and [`Error::Decode`].
    pub fn request<M: Message + Default>(
        &mut self,
        module: i32,
        method: i32,
        request: &impl Message,
        within: Duration,
    ) -> Result<M, Error> {
        let body = self.call(module, method, request.encode_to_vec(), within)?;
        self.envelope.body(&body)
    }

    fn send_packet(&mut self, deadline: Deadline) -> Result<(), Error> {
        loop {
            match socket::send_packet(&self.socket, &self.packet) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, "room for the call", deadline)?;
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(self.closed("before it had the whole call"));
                }
                Err(error) => return Err(Error::io("send to", &self.envelope.path, error)),
            }
        }
    }

    fn recv_packet(&mut self, deadline: Deadline) -> Result<usize, Error> {
        loop {
            match socket::recv_packet(&self.socket, &mut self.packet) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, "answer", deadline)?;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(0),
                Err(error) => return Err(Error::io("receive from", &self.envelope.path, error)),
            }
        }
    }

    fn wait(&self, flags: PollFlags, what: &'static str, deadline: Deadline) -> Result<(), Error> {
        let left = deadline.at.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&self.socket, flags)], timeout.as_ref()) {
            Ok(0) => Err(Error::Timeout {
                path: self.envelope.path.clone(),
                what,
                after: deadline.after,
            }),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io(
                "wait on",
                &self.envelope.path,
                io::Error::from(error),
            )),
        }
    }

    fn closed(&self, when: &'static str) -> Error {
        Error::Closed {
            path: self.envelope.path.clone(),
            when,
        }
    }
}
