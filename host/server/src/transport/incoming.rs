//! Connections to the control plane: accepted, authenticated, handed to gRPC.

use super::Caller;
use crate::descriptors;
use crate::telemetry::Calls;
use daos_certs::{Renewal, Renewing, explain, role_of};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{info, warn};

/// How long a handshake may take: who has not shown a certificate by then is not waited for.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to greet in HTTP/2, and how much that is (RFC 9113, section 3.4). What it does afterwards
/// is watched by pings.
const GREETING: Duration = Duration::from_secs(10);
const GREETING_BYTES: usize = 24;

/// How long to wait when the system has no more descriptors for connections.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Connections that wait for gRPC to take them over.
const WAITING: usize = 64;

/// An authenticated connection.
pub(crate) struct Connection {
    stream: Stream,
    caller: Caller,
    /// Until when it has to greet, and how much of that has come; none once it has.
    greeting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Connection {
    fn new(stream: Stream, caller: Caller) -> Self {
        Self {
            stream,
            caller,
            greeting: Some((Box::pin(tokio::time::sleep(GREETING)), 0)),
        }
    }
}

enum Stream {
    Plain(TcpStream),
    // Its state is large, and connections are moved about.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts connections until the stream is dropped. With certificates only those come out of it
/// whose peer has shown one of the system's with the name of a component.
pub(crate) fn incoming(
    listener: TcpListener,
    certificates: Option<Arc<Renewing>>,
    calls: Calls,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let accepting = accept(&listener, certificates, &calls, &ready);
        tokio::select! {
            () = accepting => {}
            // The server ends: nobody takes connections any more.
            () = ready.closed() => {}
        }
    });
    ReceiverStream::new(connections)
}

async fn accept(
    listener: &TcpListener,
    certificates: Option<Arc<Renewing>>,
    calls: &Calls,
    ready: &mpsc::Sender<io::Result<Connection>>,
) {
    let mut told = false;
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of a connection that ended before it was accepted, or no descriptors: both pass.
                if !std::mem::replace(&mut told, true) {
                    let remedy = descriptors::remedy(&error);
                    warn!(
                        "a connection to the control plane could not be accepted: {error}{remedy}"
                    );
                }
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        told = false;
        // Small messages must not wait for each other; a stream that is gone says so later.
        let _ = stream.set_nodelay(true);
        let Some(certificates) = &certificates else {
            let connection = Connection::new(Stream::Plain(stream), Caller::Anyone);
            if ready.send(Ok(connection)).await.is_err() {
                return;
            }
            continue;
        };
        let acceptor = acceptor(certificates);
        let (certificates, ready) = (Arc::clone(certificates), ready.clone());
        let calls = calls.clone();
        // Each on its own: one that dawdles keeps nobody else waiting.
        tokio::spawn(async move {
            match authenticate(acceptor, stream, certificates.server_name()).await {
                Ok(connection) => {
                    // The server has ended if nobody takes it.
                    let _ = ready.send(Ok(connection)).await;
                }
                Err(why) => {
                    calls.handshake_failed();
                    warn!("connection from {peer} refused: {why}");
                }
            }
        });
    }
}

/// The server's end by the certificates of this moment.
fn acceptor(certificates: &Renewing) -> TlsAcceptor {
    let (config, renewal) = certificates.config();
    match renewal {
        Renewal::Same => {}
        Renewal::Renewed(until) => {
            info!("new certificates of this server are in use, valid until {until}");
        }
        Renewal::Refused(problem) => {
            warn!("new certificates of this server are not used, the ones before are: {problem}");
        }
    }
    TlsAcceptor::from(config)
}

async fn authenticate(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    server_name: &str,
) -> Result<Connection, String> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| format!("no handshake within {} s", HANDSHAKE.as_secs()))?
        .map_err(|error| {
            explain(&error, "the client").unwrap_or_else(|| format!("handshake: {error}"))
        })?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let role = role_of(chain, server_name)
        .map_err(|name| format!("its certificate's name {name:?} is no component's"))?;
    Ok(Connection::new(
        Stream::Tls(Box::new(stream)),
        Caller::Component(role),
    ))
}

/// What a request's extensions say about its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Who calls.
    pub(crate) caller: Caller,
    /// From where; none if the connection is gone already.
    pub(crate) address: Option<SocketAddr>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        Peer {
            caller: self.caller,
            address: stream.peer_addr().ok(),
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(inner) => {
                let $stream = Pin::new(inner);
                $call
            }
            Stream::Tls(inner) => {
                let $stream = Pin::new(inner.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some((deadline, _)) = &mut this.greeting
            && deadline.as_mut().poll(context).is_ready()
        {
            let error = io::Error::new(io::ErrorKind::TimedOut, "no greeting in HTTP/2");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let done = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        };
        if let Some((_, bytes)) = &mut this.greeting {
            *bytes += buffer.filled().len() - before;
            if *bytes >= GREETING_BYTES {
                this.greeting = None;
            }
        }
        done
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, buffer))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
