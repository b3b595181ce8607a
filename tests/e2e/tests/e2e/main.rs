//! The real programs together. Modules are named after what they prove; see `daos_e2e` for what a test
//! stands on.

mod arrays;
mod benchmark;
mod chaos;
mod command_lines;
mod config_effects;
mod data;
mod engine_death;
mod file_keys;
mod foreign_storage;
mod format_death;
mod format_guards;
mod format_output;
mod front_door;
mod hostile_plugins;
mod immutable_keys;
mod leases;
mod life;
mod lost_storage;
mod main_job;
mod namespaces;
mod network_scan;
mod packaging;
mod plugins_dir;
mod pools;
mod providers;
mod server_death;
mod single_instance;
mod soak;
mod traces;
mod two_engines;
mod wrong_config;
