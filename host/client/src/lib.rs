//! Client library of the built-in engine.
//!
//! ```no_run
//! # async fn example() -> Result<(), daos_client::Error> {
//! use daos_client::{Client, ObjectId, Options, Uuid};
//!
//! let client = Client::connect(Options::access_point("node1:10001")).await?;
//! let pool = client.pool("tank").await?;
//! let container = pool.create_container(Uuid::new_v4(), "weather").await?;
//! let object = ObjectId { hi: 0, lo: 7 };
//! container.put(object, b"2024-06-01", b"temperature", b"21.5").await?;
//! assert_eq!(container.get(object, b"2024-06-01", b"temperature").await?, b"21.5");
//! # Ok(())
//! # }
//! ```
//!
//! * Objects live in containers of pools. Pools are made by `daos_shell pool create`, containers by
//!   [`Pool::create_container`]; what does not exist is refused ([`Error::Missing`]).
//! * A [`Client`] finds its engine through the control plane or is told where it is, loads the
//!   fabric plugin of the engine's provider, and keeps one thread that owns the fabric endpoint (or a task
//!   of the caller's, see [`Progress`]).
//!   Calls are pipelined: any number of tasks may call at once.
//! * Data of up to [`daos_wire::INLINE_MAX`] bytes travels in messages, more by remote memory
//!   access of the engine to memory of this process.
//! * An [`Array`] is read and written by records; large transfers are cut into parts that travel side
//!   by side.
//! * Every value has a CRC-32C, computed here before it leaves and verified here when it returns.
//! * A call outlives its engine: until its deadline it is repeated, at the engine's new address if
//!   it was restarted. A change keeps its sequence number, so that the engine carries it out once.
//!   A change that was given up (deadline, dropped future) is refused if it arrives after a later one.
//!
//! Architecture invariants: the fabric is touched by the driver's thread or task alone (registration of
//! memory excepted, which a lock serialises); `unsafe` lives in `block`, `pool` and
//! `driver::link`; nothing here decides what is durable - an acknowledgement comes from the engine.

mod array;
mod block;
mod call;
mod client;
mod container;
mod driver;
mod error;
mod lent;
mod locate;
mod namespace;
mod options;
mod ping;
mod pool;
mod provider;
mod retry;
mod sequence;

pub use array::{Array, ArrayInfo};
pub use client::{Client, TargetInfo};
pub use container::{Container, Punch};
pub use daos_wire::{
    ARRAY_MAX, EngineUri, Entry, EntryState, ObjectId, PoolSpace, RECORD_SIZE_MAX, WireStatus,
    crc32c, crc32c_combine,
};
pub use error::{Error, Operation};
pub use namespace::{Name, Pool};
pub use options::{EngineAddress, Options, Progress};
pub use ping::{PING_MAX, Pinger, find_engine};
pub use uuid::Uuid;
