//! The configuration of `daos_server`.
//!
//! A file is loaded in two steps. [`Config::load`] parses it, lets the command line
//! ([`Overrides`]) win, fills in defaults and inherited values and checks everything that can
//! be checked without plugins. When the manifests of the plugins are known,
//! [`Config::check_classes`] checks class names and class-specific keys. Both report every
//! error they find, each with file, line, column and what to do ([`Diagnostic`]).
//!
//! ```
//! use daos_config::{Config, Overrides};
//!
//! let text = "servers:\n- scm_mount: /mnt/daos\n  tragets: 4\n  nr_xs_helpers: 3\n";
//! let errors = Config::parse(text, "daos_server.yml", &Overrides::default()).unwrap_err();
//! let error = errors.errors().next().unwrap();
//! assert_eq!((error.line, error.column), (Some(4), Some(18)));
//! ```
//!
//! All keys are in one table ([`keys`]); the commented example ([`example()`]) is generated
//! from it, and so is the table of effects ([`effects_table()`]). Nothing here keeps state, and all types may be sent between threads.

mod active;
mod classes;
mod cross;
mod diagnostic;
mod effects_table;
mod example;
mod immutable;
pub mod keys;
mod layers;
mod load;
mod model;
mod overrides;
mod parse;
mod paths;
mod schema;
mod section;
mod source;
mod tiers;
mod tree;
mod validate;
mod values;

pub use active::ACTIVE_FILE;
pub use classes::{ClassKind, ClassSchema};
pub use diagnostic::{Code, ConfigErrors, Diagnostic, Related, Severity};
pub use effects_table::effects_table;
pub use example::example;
pub use immutable::ImmutableKey;
pub use load::Loaded;
pub use model::{
    AccessPoint, Config, ControlLogMask, EngineConfFormat, EnvVar, PluginConfig, ServerConfig,
    TransportConfig,
};
pub use overrides::Overrides;
pub use paths::{SYSTEM_PATHS, default_plugins_dir, default_state_dir, locate, search_paths};
pub use tree::MAX_FILE_BYTES;
pub use validate::is_fault_path;
pub use values::normalise_pci;
