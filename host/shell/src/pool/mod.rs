//! `pool`: the pools of a system, over its management service.

pub(crate) mod create;
pub(crate) mod destroy;
pub(crate) mod properties;
pub(crate) mod show;
pub(crate) mod size;

use crate::manage::{connect, failed};

/// The system as requests name it: with the caller's version.
fn system(name: &str) -> String {
    match name {
        "" => String::new(),
        name => format!("{name}-{}", daos_proto::PROTOCOL_VERSION),
    }
}
