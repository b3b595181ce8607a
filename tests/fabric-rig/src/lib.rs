//! What the tests of fabric plugins share: endpoints with their completions ([`Node`]), requests ([`send`], [`recv`], [`read`],
//! [`write()`]), and data that can be verified ([`pattern`]).
//!
//! Whoever submits keeps the memory of an operation until it is completed or its node is dropped, as a plugin's caller must.

mod node;
mod request;

pub use node::{Node, finish, idle, sleep};
pub use request::{Memory, Operand, Remote, read, recv, register, request, send, write};
use std::time::Duration;

/// How long anything in a test may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The mask of a receive that takes every tag.
pub const ANY: u64 = u64::MAX;

/// Bytes that depend on a seed and on their place.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
