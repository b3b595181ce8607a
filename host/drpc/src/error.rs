//! Errors of sockets, clients and servers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use daos_proto::drpc::Status;

use crate::frame::FrameError;

/// Why a call, or setting up a socket, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a socket or its path.
    #[error("dRPC: cannot {action} {path}: {source}")]
    Io {
        /// What was tried, for example "connect to".
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Somebody listens on the socket.
    #[error(
        "dRPC: socket {path} is in use by {}; stop that one or configure another socket_dir",
        match .process { Some(pid) => format!("process {pid}"), None => "a running process".to_owned() }
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who listens, if the kernel tells.
        process: Option<i32>,
    },
    /// There is something else than a socket at the path.
    #[error("dRPC: {path} exists and is not a socket; remove it or configure another socket_dir")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The peer sent packets that do not make a message.
    #[error("dRPC: {path}: {source}")]
    Frame {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        source: FrameError,
    },
    /// The peer closed the connection instead of answering.
    #[error("dRPC: {path}: the peer closed the connection {when}")]
    Closed {
        /// The socket.
        path: PathBuf,
        /// In which situation.
        when: &'static str,
    },
    /// The peer took too long.
    #[error("dRPC: {path}: no {what} within {after:?}")]
    Timeout {
        /// The socket.
        path: PathBuf,
        /// What was waited for.
        what: &'static str,
        /// The deadline that passed.
        after: Duration,
    },
    /// A message that is not what it should be.
    #[error("dRPC: {path}: cannot decode the {what}: {source}")]
    Decode {
        /// The socket.
        path: PathBuf,
        /// Response or body.
        what: &'static str,
        /// The cause.
        source: prost::DecodeError,
    },
    /// The answer to another call.
    #[error("dRPC: {path}: the answer to call {got} came where that to call {wanted} was due")]
    Sequence {
        /// The socket.
        path: PathBuf,
        /// Sequence of the call.
        wanted: i64,
        /// Sequence of the answer.
        got: i64,
    },
    /// The peer refused the call.
    #[error("dRPC: {path}: call {module}/{method} was answered {}", status_name(*status))]
    Status {
        /// The socket.
        path: PathBuf,
        /// Module called.
        module: i32,
        /// Method called.
        method: i32,
        /// The answer, a number of [`Status`].
        status: i32,
    },
    /// An earlier call on this connection failed halfway.
    #[error("dRPC: {path}: the connection is out of step after an earlier error; connect again")]
    Broken {
        /// The socket.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
        source: impl Into<io::Error>,
    ) -> Self {
        Error::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// The status with which the peer refused the call, if it did.
    pub fn status(&self) -> Option<Status> {
        match self {
            Error::Status { status, .. } => Status::try_from(*status).ok(),
            _ => None,
        }
    }
}

fn status_name(status: i32) -> String {
    match Status::try_from(status) {
        Ok(status) => status.as_str_name().to_owned(),
        Err(_) => format!("with the unknown status {status}"),
    }
}
