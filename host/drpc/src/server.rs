//! The serving side.

use std::future::Future;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::async_fd::register;
use crate::connection::Connection;
use crate::frame::MAX_MESSAGE;
use crate::{Error, Listener, Router, socket};

/// What a server grants its callers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of a call.
    pub message: usize,
    /// Most connections at a time; more wait to be accepted.
    pub connections: usize,
    /// How long a call that has begun may take to arrive, and its answer to be taken.
    pub transfer: Duration,
    /// How long calls under way may go on after the server was told to end.
    pub grace: Duration,
}

impl Default for Limits {
    /// 64 MiB, 256 connections, 30 s, 5 s.
    fn default() -> Self {
        Limits {
            message: MAX_MESSAGE,
            connections: 256,
            transfer: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

/// Answers calls on one socket.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    router: Router,
    limits: Limits,
}

impl Server {
    /// Listens on `path`, with access for this user only (0600). Callers may connect from here on;
    /// they are answered by [`Server::serve`].
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind(path: &Path, router: Router) -> Result<Server, Error> {
        Ok(Self::new(
            Listener::bind(path, 0o600)?,
            router,
            Limits::default(),
        ))
    }

    /// Serves on a listener of the caller's making.
    pub fn new(listener: Listener, router: Router, limits: Limits) -> Server {
        Server {
            listener,
            router,
            limits,
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// Answers until `shutdown` is done, then lets calls under way end (see [`Limits::grace`]) and
    /// removes the socket. Needs a tokio runtime with I/O and time; one thread is enough.
    ///
    /// # Errors
    /// Only when waiting on the listening socket is impossible; errors of connections end those.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let Server {
            listener,
            router,
            limits,
        } = self;
        let path = listener.path().to_owned();
        let socket = listener.as_fd().try_clone_to_owned().and_then(register);
        let socket = socket.map_err(|error| Error::io("wait on", &path, error))?;
        let slots = Arc::new(Semaphore::new(limits.connections));
        let (stop, stopped) = watch::channel(());
        let mut tasks = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let (connection, slot) = tokio::select! {
                () = &mut shutdown => break,
                // Ended tasks give their memory back as we go.
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = accept(&socket, &slots, &path) => accepted?,
            };
            let serve = serve_connection(
                connection,
                path.clone(),
                router.clone(),
                limits,
                stopped.clone(),
            );
            tasks.spawn(async move {
                if let Err(error) = serve.await {
                    tracing::warn!("{error}");
                }
                drop(slot);
            });
        }
        drop((socket, listener));
        drop(stop);
        let ended = timeout(limits.grace, async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
        if ended.is_err() {
            tracing::warn!(
                path = %path.display(),
                "dRPC: {} calls were cut off after {:?}", tasks.len(), limits.grace
            );
            tasks.shutdown().await;
        }
        Ok(())
    }
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &AsyncFd<OwnedFd>,
    slots: &Arc<Semaphore>,
    path: &Path,
) -> Result<(OwnedFd, OwnedSemaphorePermit), Error> {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        let mut guard = listener
            .readable()
            .await
            .map_err(|error| Error::io("wait on", path, error))?;
        match guard.try_io(socket::accept) {
            Ok(Ok(socket)) => return Ok((socket, slot)),
            // Out of descriptors or memory: the connection stays in the queue, others may end.
            Ok(Err(error)) => {
                tracing::warn!("{}", Error::io("accept a connection on", path, error));
                sleep(Duration::from_millis(100)).await;
            }
            Err(_not_ready) => {}
        }
    }
}

async fn serve_connection(
    socket: OwnedFd,
    path: PathBuf,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) -> Result<(), Error> {
    let caller =
        socket::caller(&socket).map_err(|error| Error::io("identify a peer of", &path, error))?;
    let mut connection = Connection::new(socket, &path, limits.message)
        .map_err(|error| Error::io("wait on", &path, error))?;
    loop {
        tokio::select! {
            // The sender is dropped when the server ends.
            _ = stopped.changed() => return Ok(()),
            ready = connection.readable() => ready?,
        }
        let call = connection
            .within(limits.transfer, "whole call", async |connection| {
                connection.recv().await
            })
            .await?;
        let Some(call) = call else { return Ok(()) };
        let answer = router.answer(caller, &call).await;
        connection
            .within(limits.transfer, "room for the answer", async |connection| {
                connection.send(&answer).await
            })
            .await?;
    }
}
