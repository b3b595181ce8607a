//! Finds plugins, decides whether they may be trusted, and loads them.
//!
//! Three steps that never mix:
//!
//! * **Inspect** ([`PluginFile::inspect`], [`Catalogue::build`]): reads the manifest of a shared
//!   object from its ELF note and judges the file and everything above and below it (directories,
//!   libraries it pulls in). No code of the plugin runs; any bytes at all may be in the file.
//! * **Choose** ([`Catalogue::find`]): which plugin provides a class.
//! * **Load** ([`load`]): maps the file into this process and checks the interface both ways. Only
//!   helpers and engines do that; the daemon never does.
//!
//! [`StateDir`] keeps what must survive a restart: quarantined files, what plugins did to processes,
//! and device leases.
//!
//! Architecture invariants: `unsafe` lives in `dl`, `signals` and `end` alone; a refusal is one sentence
//! that says what was found and what mends it; one bad file never affects the others.

mod allow;
mod catalogue;
mod dl;
mod elf;
mod end;
mod identity;
mod info;
mod inspect;
mod layout;
mod libraries;
mod load;
mod manifest;
mod note;
mod provider;
mod refusal;
mod signals;
mod state;
mod trust;

pub use allow::{AllowEntry, AllowList, sha256_of};
pub use catalogue::{Catalogue, ClassError};
pub use end::{ConnectionIdentity, EXIT_TAKEN, end_process, outlive_signals};
pub use identity::FileIdentity;
pub use info::{AbiVersion, Origin, PluginInfo};
pub use inspect::{PluginFile, Policy};
pub use layout::{LayoutMismatch, compatible_layouts};
pub use libraries::{Dependency, Found};
pub use load::{LoadError, Loaded, load};
pub use provider::NoProvider;
pub use refusal::{Refusal, Refused};
pub use state::{
    Incident, Lease, LeaseError, Leases, Quarantine, QuarantineRecord, StateDir, StateError,
    Suspect,
};
pub use trust::Trust;

#[doc(hidden)]
pub use note::fuzz as fuzz_elf;
