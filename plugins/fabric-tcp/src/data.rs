//! Data face: tagged messages and remote memory access over plain TCP sockets.
//!
//! ```text
//! domain ──▶ endpoint ──▶ progress ──▶ receive ──▶ matching     messages and RECVs
//!    │                        │    └─▶ transmit    operations   SEND, READ, WRITE
//!    └─▶ region               └─▶ lane ──▶ frame                one connection; the protocol
//! ```
//!
//! * Each endpoint dials a peer when it first has something for it, one connection ("lane") for
//!   messages and one for remote memory access. The peer dials its own for the other direction:
//!   two endpoints that call each other at the same moment just do both.
//! * Remote memory access is carried out by the target inside its `poll`.
//! * A message that finds no RECV is held up to a limit per peer and in all; beyond it, nothing
//!   more is read from that peer's message lane until RECVs come. Its memory access goes on.
//! * A lane that breaks ends its outstanding operations as UNREACHABLE; the next operation dials
//!   again. A peer that was restarted has another address, and the old one stays unreachable.

mod address;
mod domain;
mod endpoint;
mod frame;
mod lane;
mod matching;
mod memory;
mod operations;
mod progress;
mod receive;
mod region;
mod slots;
mod socket;
mod transmit;

pub use domain::TcpDomain;
pub use endpoint::TcpEndpoint;
pub use region::Registered;

/// Bytes of memory that holding the largest message takes: the least limit for held messages.
pub(crate) const MAX_MESSAGE_COST: usize = frame::MAX_MESSAGE as usize + matching::OVERHEAD;
