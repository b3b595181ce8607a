//! What can go wrong.

use daos_wire::{ObjectId, Opcode, WireStatus};
use std::time::Duration;
use thiserror::Error;

/// What a call was about, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was asked for.
    pub opcode: Opcode,
    /// Object.
    pub object: ObjectId,
    /// Distribution key; empty if none was named.
    pub dkey: Vec<u8>,
    /// Attribute key; empty if none was named.
    pub akey: Vec<u8>,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = match self.opcode {
            Opcode::Put => "put",
            Opcode::Get => "get",
            Opcode::Punch => "punch",
            Opcode::ListDkeys => "list dkeys of",
            Opcode::ListAkeys => "list akeys of",
            Opcode::ArrayPut => "write records of the array in",
            Opcode::ArrayGet => "read records of the array in",
            Opcode::ArrayPunch => "punch records of the array in",
            Opcode::ArrayQuery => "size of the array in",
            Opcode::Query => return f.write_str("query of a target"),
            Opcode::Ping => return f.write_str("ping of a target"),
            Opcode::ContCreate => return f.write_str("creation of a container"),
            Opcode::ContDestroy => return f.write_str("destruction of a container"),
            Opcode::ContList => return f.write_str("list of containers"),
            Opcode::ContQuery => return f.write_str("query of a container"),
            Opcode::PoolQuery => return f.write_str("query of a pool"),
            Opcode::PoolList => return f.write_str("list of pools"),
            Opcode::PoolFind => return f.write_str("look-up of a pool"),
        };
        write!(f, "{verb} object {}", self.object)?;
        for (name, key) in [("dkey", &self.dkey), ("akey", &self.akey)] {
            if !key.is_empty() {
                // Keys are bytes and may be long.
                let end = key.len().min(64);
                let dots = if end < key.len() { "..." } else { "" };
                write!(f, " {name} \"{}{dots}\"", key[..end].escape_ascii())?;
            }
        }
        Ok(())
    }
}

/// Failure of a call: what failed, on what, why, and what to do next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An address does not parse.
    #[error("\"{given}\" is no {expected}: {cause}")]
    Address {
        /// What was given.
        given: String,
        /// What it should be.
        expected: &'static str,
        /// Why it is not.
        cause: String,
    },
    /// The agent's certificate cannot be used.
    #[error("no secure connection is possible: {0}")]
    Certificate(String),
    /// No access point answered.
    #[error("cannot reach the control plane at {access_points}: {cause}")]
    ControlPlane {
        /// All that were tried.
        access_points: String,
        /// Why the last one failed.
        cause: String,
    },
    /// The control plane answered with an error.
    #[error(
        "the server at {access_point} names no engine: {cause}{}",
        hint(remedy)
    )]
    NoEngine {
        /// Who answered.
        access_point: String,
        /// What it said.
        cause: String,
        /// What it suggests; may be empty.
        remedy: String,
    },
    /// The fabric plugin cannot be used.
    #[error("cannot use fabric provider \"{provider}\": {cause}{}", hint(remedy))]
    Provider {
        /// Text before `://` in the engine's address.
        provider: String,
        /// Why.
        cause: String,
        /// What to do; may be empty.
        remedy: String,
    },
    /// The fabric failed on this side.
    #[error("{operation}: the fabric of this machine failed: {cause}; connect again")]
    Fabric {
        /// What was asked for.
        operation: Operation,
        /// Why.
        cause: String,
    },
    /// A key or value that no engine stores.
    #[error("{operation}: {what} has {len} bytes, {limit} are allowed")]
    Size {
        /// What was asked for.
        operation: Operation,
        /// "the dkey", "the akey", "the value".
        what: &'static str,
        /// Its length.
        len: usize,
        /// Least and most bytes, as text.
        limit: &'static str,
    },
    /// Records that no array has.
    #[error("{operation}: {cause}")]
    Records {
        /// What was asked for.
        operation: Operation,
        /// What is wrong with them.
        cause: String,
    },
    /// Nothing is stored under these keys.
    #[error("{operation}: nothing is stored there; `daos object list` shows the keys that exist")]
    NotFound {
        /// What was asked for.
        operation: Operation,
    },
    /// The pool or container does not exist.
    #[error("{operation}: {detail}")]
    Missing {
        /// What was asked for.
        operation: Operation,
        /// Which one, and how to make it.
        detail: String,
    },
    /// No pool was named, and the engine has none or several.
    #[error("{}", which_pool(labels))]
    WhichPool {
        /// Labels of those that it has.
        labels: Vec<String>,
    },
    /// The engine refused or failed.
    #[error("{operation}: target {target} says: {status}{}{}", colon(detail), advice(*status))]
    Engine {
        /// What was asked for.
        operation: Operation,
        /// Which target answered.
        target: u32,
        /// Outcome.
        status: WireStatus,
        /// The engine's own words; may be empty.
        detail: String,
    },
    /// A value came back other than its checksum says, more than once.
    #[error(
        "{operation}: {bytes} bytes came back from target {target} with CRC-32C {found:#010x} where {expected:#010x} belongs, {attempts} times; the network or a machine's memory damages data"
    )]
    Checksum {
        /// What was asked for.
        operation: Operation,
        /// Which target answered.
        target: u32,
        /// Length of the value.
        bytes: usize,
        /// Computed here.
        found: u32,
        /// Carried in the reply.
        expected: u32,
        /// How often it was tried.
        attempts: u32,
    },
    /// The engine broke the protocol.
    #[error(
        "{operation}: the answer of target {target} makes no sense: {cause}; use a client and an engine of the same release"
    )]
    Protocol {
        /// What was asked for.
        operation: Operation,
        /// Which target answered.
        target: u32,
        /// What is wrong with it.
        cause: String,
    },
    /// The deadline passed.
    #[error(
        "{operation}: not done after {:.1} s: {last}{}; see `daos_shell system query` for the engine's state",
        after.as_secs_f64(), doubt(operation)
    )]
    TimedOut {
        /// What was asked for.
        operation: Operation,
        /// How long it was tried.
        after: Duration,
        /// What stood in the way last.
        last: String,
    },
}

fn which_pool(labels: &[String]) -> String {
    if labels.is_empty() {
        return "there is no pool; `daos_shell pool create LABEL --size 50%` creates one"
            .to_owned();
    }
    format!(
        "there are several pools, name one of them: --pool {}",
        labels.join(" | ")
    )
}

fn hint(remedy: &str) -> String {
    if remedy.is_empty() {
        String::new()
    } else {
        format!("; {remedy}")
    }
}

fn colon(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

fn doubt(operation: &Operation) -> &'static str {
    match operation.opcode {
        Opcode::Put | Opcode::Punch | Opcode::ArrayPut | Opcode::ArrayPunch => {
            "; whether it happened is unknown"
        }
        Opcode::ContDestroy => "; if the engine has begun, it goes on by itself",
        _ => "",
    }
}

/// What to do about an outcome.
fn advice(status: WireStatus) -> &'static str {
    match status {
        WireStatus::KIND => "; `daos array stat` shows what an array is like",
        WireStatus::NO_SPACE => "; punch what is not needed, or use a larger pool",
        WireStatus::CORRUPT => "; write the value again, and look at the device's health",
        WireStatus::IO | WireStatus::DEVICE_GONE => {
            "; see the engine's log and the device's health"
        }
        WireStatus::VERSION | WireStatus::NOT_SUPPORTED => {
            "; use a client and an engine of the same release"
        }
        WireStatus::UNREACHABLE => "; check that the engine can reach this machine's interface",
        WireStatus::INTERNAL | WireStatus::INVALID => "; see the engine's log",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(dkey: &[u8]) -> Operation {
        Operation {
            opcode: Opcode::Put,
            object: ObjectId { hi: 1, lo: 2 },
            dkey: dkey.to_vec(),
            akey: b"a".to_vec(),
        }
    }

    #[test]
    fn messages_name_the_keys_and_what_to_do() {
        let error = Error::Engine {
            operation: operation(b"d\x00\""),
            target: 3,
            status: WireStatus::NO_SPACE,
            detail: "bdev 1 of 2".into(),
        };
        assert_eq!(
            error.to_string(),
            "put object 1.2 dkey \"d\\x00\\\"\" akey \"a\": target 3 says: no space left: bdev 1 of 2; \
             punch what is not needed, or use a larger pool"
        );
    }

    #[test]
    fn long_keys_are_cut() {
        let text = operation(&[b'k'; 4096]).to_string();
        assert!(text.len() < 200 && text.contains("kkk...\""), "{text}");
    }
}
