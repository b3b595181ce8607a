//! dRPC: calls between processes of one host over `AF_UNIX` `SOCK_SEQPACKET` sockets.
//!
//! `daos_server` serves its engines and they serve it; the framing is that of DAOS 2.8, so either
//! side may be the original program.
//!
//! * [`Server`] answers calls with [`Module`]s, in a tokio runtime;
//! * [`Client`] calls from a tokio runtime, [`BlockingClient`] from a thread of its own;
//! * [`frame`] cuts messages into packets and puts them together again, without any socket;
//! * [`methods`] names the numbers of modules and methods.
//!
//! The envelope is `drpc.Call` and `drpc.Response`; bodies are protobuf messages. Nothing here
//! panics on what a peer sends, and a peer can make this side hold one message of at most
//! [`frame::MAX_MESSAGE`] bytes per connection.

mod async_fd;
mod blocking;
mod client;
mod connection;
mod dispatch;
mod envelope;
mod error;
pub mod frame;
mod listener;
pub mod methods;
mod server;
mod socket;

pub use blocking::BlockingClient;
pub use client::Client;
pub use daos_proto::drpc::Status;
pub use dispatch::{Module, Refusal, Reply, Request, Router, reply};
pub use error::Error;
pub use listener::Listener;
pub use server::{Limits, Server};
pub use socket::Caller;
