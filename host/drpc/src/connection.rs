//! Messages over an asynchronous socket.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::async_fd::register;
use crate::frame::{Assembler, MAX_PACKET, Packets};
use crate::{Error, socket};

/// A connected socket. Must be made and used inside a tokio runtime with I/O and time.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: AsyncFd<OwnedFd>,
    path: PathBuf,
    packet: Vec<u8>,
    limit: usize,
}

impl Connection {
    /// Messages of up to `limit` bytes are accepted.
    pub(crate) fn new(socket: OwnedFd, path: &Path, limit: usize) -> io::Result<Self> {
        let socket = register(socket)?;
        Ok(Connection {
            socket,
            path: path.to_owned(),
            packet: Vec::new(),
            limit,
        })
    }

    /// Waits until a message has begun or the peer has closed. Cancel safe.
    pub(crate) async fn readable(&self) -> Result<(), Error> {
        loop {
            let mut guard = self
                .socket
                .readable()
                .await
                .map_err(|error| self.io("wait on", error))?;
            // The runtime may take a socket for readable that was read empty: look.
            match guard.try_io(|socket| socket::peek(socket.get_ref())) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Ok(Err(error)) => return Err(self.io("receive from", error)),
                Err(_not_ready) => {}
            }
        }
    }

    /// Receives one message; `None` when the peer has closed. Not cancel safe: what has come of the
    /// message is lost, and the connection must be dropped.
    pub(crate) async fn recv(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut assembler = Assembler::new(self.limit);
        // A byte more than allowed, so that a packet that is too long shows.
        self.packet.resize(MAX_PACKET + 1, 0);
        loop {
            let received = loop {
                let mut guard = self
                    .socket
                    .readable()
                    .await
                    .map_err(|error| self.io("wait on", error))?;
                let buffer = &mut self.packet;
                match guard.try_io(|socket| socket::recv_packet(socket.get_ref(), buffer)) {
                    Ok(received) => break received,
                    Err(_not_ready) => {}
                }
            };
            let length = match received {
                Ok(0) => 0,
                Ok(length) => length,
                // The peer went away with unread data.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(self.io("receive from", error)),
            };
            if length == 0 {
                if assembler.is_partial() {
                    let when = "in the middle of a message";
                    return Err(Error::Closed {
                        path: self.path.clone(),
                        when,
                    });
                }
                return Ok(None);
            }
            let message =
                assembler
                    .push(&self.packet[..length])
                    .map_err(|source| Error::Frame {
                        path: self.path.clone(),
                        source,
                    })?;
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Sends one message. Not cancel safe: the connection must be dropped.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut packets = Packets::new(message);
        while packets.next_into(&mut self.packet) {
            loop {
                let mut guard = self
                    .socket
                    .writable()
                    .await
                    .map_err(|error| self.io("wait on", error))?;
                let packet = &self.packet;
                match guard.try_io(|socket| socket::send_packet(socket.get_ref(), packet)) {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                        let when = "before it had the whole message";
                        return Err(Error::Closed {
                            path: self.path.clone(),
                            when,
                        });
                    }
                    Ok(Err(error)) => return Err(self.io("send to", error)),
                    Err(_not_ready) => {}
                }
            }
        }
        Ok(())
    }

    /// Runs `work` with a deadline.
    pub(crate) async fn within<T>(
        &mut self,
        after: Duration,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match timeout(after, work(self)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(Error::Timeout {
                path: self.path.clone(),
                what,
                after,
            }),
        }
    }

    fn io(&self, action: &'static str, error: io::Error) -> Error {
        Error::io(action, &self.path, error)
    }
}
