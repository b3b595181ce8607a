//! The real programs together. Modules are named after what they prove; see `daos_e2e` for what a test
//! stands on.

mod burn_in;
mod command_lines;
mod config_effects;
mod data;
mod data_path;
mod fabric_choice;
mod fabric_refused;
mod file_keys;
mod foreign_storage;
mod format_death;
mod format_guards;
mod format_output;
mod front_door;
mod generate;
mod hostile_engines;
mod hostile_plugins;
mod immutable_keys;
mod layers;
mod leases;
mod life;
mod log_masks;
mod network_ping;
mod network_scan;
mod no_libfabric;
mod packaging;
mod plugin_detail;
mod plugins_dir;
mod providers;
mod single_instance;
mod soak;
mod storage_prepare;
mod storage_scan;
mod telemetry;
mod traces;
mod wrong_config;
