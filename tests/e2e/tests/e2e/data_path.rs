//! Everything that moves data over the fabric. These tests name no provider: they run on the one of
//! `DAOS_E2E_PROVIDER`, so that the same tests prove every fabric plugin.

mod arrays;
mod benchmark;
mod chaos;
mod clients;
mod engine_death;
mod hostile_peers;
mod lost_storage;
mod main_job;
pub(crate) mod namespaces;
mod network_faults;
mod pools;
mod retries;
mod server_death;
mod two_engines;
