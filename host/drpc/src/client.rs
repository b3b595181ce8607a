//! The calling side, asynchronous.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::envelope::Envelope;
use crate::frame::MAX_MESSAGE;
use crate::{Error, socket};

/// How long to wait before trying again to connect to a socket whose queue is full.
const RETRY: Duration = Duration::from_millis(5);

/// A connection to a server, for one call at a time.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    envelope: Envelope,
}

impl Client {
    /// Connects to `path`, waiting at most `within` for a server whose queue is full. A server that
    /// is not there is an error at once.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Timeout`].
    pub async fn connect(path: &Path, within: Duration) -> Result<Client, Error> {
        let deadline = Instant::now() + within;
        let socket = loop {
            match socket::connect_to(path) {
                Ok(socket) => break socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline {
                        let (path, what) = (path.to_owned(), "room in the queue");
                        return Err(Error::Timeout {
                            path,
                            what,
                            after: within,
                        });
                    }
                    sleep(RETRY).await;
                }
                Err(error) => return Err(Error::io("connect to", path, error)),
            }
        };
        let connection = Connection::new(socket, path, MAX_MESSAGE)
            .map_err(|error| Error::io("wait on", path, error))?;
        Ok(Client {
            connection,
            envelope: Envelope::new(path),
        })
    }

    /// Calls `method` of `module` with a serialized body; gives the body of the answer.
    ///
    /// # Errors
    /// [`Error::Status`] when the server refuses, [`Error::Timeout`] when it takes longer than
    /// `within`, and errors of the connection. After all but the first, and when the future is
    /// dropped before it ends, the connection is of no use any more ([`Error::Broken`]).
    pub async fn call(
        &mut self,
        module: i32,
        method: i32,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, Error> {
        let call = self.envelope.begin(module, method, body)?;
        let answer = self
            .connection
            .within(within, "answer", async |connection| {
                connection.send(&call).await?;
                connection.recv().await
            })
            .await?;
        let answer = answer.ok_or_else(|| Error::Closed {
            path: self.envelope.path.clone(),
            when: "before it answered",
        })?;
        self.envelope.end(module, method, &answer)
    }

    /// As [`Client::call`], with messages.
    ///
    /// # Errors
    /// As [`Client::call`], and [`Error::Decode`].
    pub async fn request<M: Message + Default>(
        &mut self,
        module: i32,
        method: i32,
        request: &impl Message,
        within: Duration,
    ) -> Result<M, Error> {
        let body = self
            .call(module, method, request.encode_to_vec(), within)
            .await?;
        self.envelope.body(&body)
    }
}
