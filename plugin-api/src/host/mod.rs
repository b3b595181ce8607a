//! The other side of the tables: safe wrappers for whoever calls plugins - the engine, the
//! helper, the conformance kit. Handles are released in the right order by ownership: queues and
//! regions keep their device alive, devices keep the plugin's instance alive.
//!
//! Errors of every call are [`Error`](crate::sdk::Error)s as the plugin described them; answers
//! of nonsense (bad JSON, impossible geometry) become [`Status::INTERNAL`](crate::abi::Status).

mod bdev;
mod board;
mod call;
mod crumb;
mod direct;
mod fabric;
mod instance;
mod layer;
mod memory;
mod scm;
mod services;
mod sync;
mod tables;

pub use bdev::{BdevDevice, BdevQueue};
pub use board::{Board, BoardReading, ThreadCall};
pub use call::{CallOptions, Progress};
pub use crumb::{current_call, while_loading};
pub use direct::with_context;
pub use fabric::{Endpoint, FabricDomain, FabricMemory};
pub use instance::{ControlOp, Instance, InstanceOptions, ThreadGuard};
pub use memory::PoolMemory;
pub use scm::{ScmMapping, ScmMemory};
pub use services::{HostLog, HostMetrics, NoMetrics, TracingLog};
pub use sync::SyncBdev;
pub use tables::plugin_table;
