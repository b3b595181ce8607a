//! The way to the daemon, usable from every thread.
//!
//! A plugin that closes descriptors of others closes this one as well, and what it opens next may have its number. So the
//! descriptors are looked at before they are used: nothing that is for the daemon ends up in a plugin's file or device, and
//! a process that cannot be heard any more ends at once, in a way that tells the daemon why.

use crate::error::PluginError;
use crate::frame;
use crate::protocol::Event;
use daos_loader::ConnectionIdentity;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// A connection with its sending and its receiving half.
#[derive(Clone)]
pub(super) struct Link {
    writer: Arc<Mutex<UnixStream>>,
    reader: Arc<UnixStream>,
    identity: ConnectionIdentity,
}

impl Link {
    /// Splits a connection.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            identity: ConnectionIdentity::of(&stream)?,
            reader: Arc::new(stream.try_clone()?),
            writer: Arc::new(Mutex::new(stream)),
        })
    }

    /// Ends the process if a descriptor is not what it was. What the plugin has started is ended by the daemon.
    fn must_be_ours(&self, stream: &UnixStream) {
        self.identity.must_be_of(stream);
    }

    /// Receives a message; `None` once the daemon has ended the connection, or what came is none.
    pub(super) fn receive<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        self.must_be_ours(&self.reader);
        let message = frame::read(&*self.reader).ok().flatten();
        if message.is_none() {
            self.must_be_ours(&self.reader);
        }
        message
    }

    fn try_send(&self, event: &Event) -> io::Result<()> {
        let frame = frame::encode(event)?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The other one, too: a thread that sleeps in it is not woken up when it is closed.
        self.must_be_ours(&self.reader);
        self.must_be_ours(&writer);
        io::Write::write_all(&mut *writer, &frame)
    }

    /// Sends an event. If the daemon is gone, the reading thread notices and ends this process.
    pub(super) fn send(&self, event: &Event) {
        let _ = self.try_send(event);
    }

    /// Sends the answer of a call; one that is too large becomes an error.
    pub(super) fn answer(&self, id: u64, event: &Event) {
        if let Err(e) = self.try_send(event)
            && e.kind() == io::ErrorKind::FileTooLarge
        {
            let error = Error::new(Status::INTERNAL, "the answer is too large")
                .cause(e.to_string())
                .remedy("report this to the plugin's vendor");
            self.send(&Event::Error {
                id,
                error: PluginError::from(error),
            });
        }
    }
}
