//! What a Rust plugin is written with: traits, context types, and the macros that turn an
//! implementation into tables. Panics stay inside: every call is wrapped, a panic becomes
//! [`Status::PANIC`](crate::abi::Status::PANIC) and poisons the object it happened in.
//!
//! ```ignore
//! pub struct Null;
//! impl Plugin for Null { ... }
//! impl BdevPlugin for Null { ... }
//! daos_plugin_api::declare_plugin!(Null, bdev);   // in the library crate
//! daos_plugin_api::export_plugin!(my_lib::Null);  // in the cdylib crate, nothing else there
//! ```

mod bdev;
mod builtin;
mod call;
mod error;
mod export;
mod fabric;
mod host;
mod logging;
mod plugin;
mod scm;
pub mod thunks;

pub use bdev::{Bdev, BdevPlugin, BdevQueue};
pub use builtin::{BuiltIn, built_ins};
pub use call::CallContext;
pub use error::{Error, Result};
pub use fabric::{FabricDomain, FabricEndpoint, FabricPlugin, Registration};
pub use host::{Host, Metric};
pub use plugin::{Faces, Plugin};
pub use scm::{Region, Scm, ScmPlugin};

pub use abi_stable;
pub use inventory;
pub use serde_json;
