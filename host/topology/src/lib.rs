//! What of this machine belongs together: NUMA nodes with their cores, network interfaces and devices as
//! sysfs shows them, and which fabric provider and interface suit an engine.
//!
//! Reads files below the directory it is given (`/sys` outside of tests), runs nothing and changes nothing.
//! What providers there are is told by the fabric plugins' scans, see [`Offer`].

mod choose;
mod cores;
mod interfaces;
mod names;

pub use choose::{Choice, Family, Named, Offer, Refusal, Wish, choose};
pub use cores::{Node, cpu_list, device_node, node_of, nodes, physical};
pub use interfaces::{Interface, Link, interfaces};
pub use names::is_of;
