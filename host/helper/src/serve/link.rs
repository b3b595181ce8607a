//! The way to the daemon, usable from every thread.

use crate::error::PluginError;
use crate::frame;
use crate::protocol::Event;
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// Sends events.
#[derive(Clone)]
pub(super) struct Link {
    writer: Arc<Mutex<UnixStream>>,
}

impl Link {
    /// Splits a connection into its sending and its receiving half.
    pub(super) fn new(stream: UnixStream) -> io::Result<(Self, UnixStream)> {
        let reader = stream.try_clone()?;
        let writer = Arc::new(Mutex::new(stream));
        Ok((Self { writer }, reader))
    }

    fn try_send(&self, event: &Event) -> io::Result<()> {
        let frame = frame::encode(event)?;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
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
