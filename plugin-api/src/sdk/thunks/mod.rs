//! The `extern "C"` side of the traits: one generic function per table member. All `unsafe` of
//! the SDK's boundary lives here.

mod bdev;
mod fabric;
mod guard;
mod plugin;
mod scm;

pub use bdev::BdevFace;
pub use fabric::FabricFace;
pub use plugin::{root_module, table};
pub use scm::ScmFace;
