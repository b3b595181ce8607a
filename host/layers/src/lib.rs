//! Layers that stack over any block device, by configuration and at run time.
//!
//! | layer | what it does |
//! |---|---|
//! | [`fault`] | errors, torn and dropped writes, flipped bits, removal of the device |
//! | [`delay`] | keeps completions back for a fixed or random time |
//! | [`stats`] | measures how long each operation takes, by operation and size |
//!
//! A layer is a device like any other ([`daos_plugin_api::sdk::Bdev`]): [`Stack`] puts the ones of a
//! [`LayerSpec`] list over a device, the first one of the list on top. Over a device without layers nothing is
//! put: its queues are the plugin's own.
//!
//! `unsafe` lives in [`fault::memory`] and in the queues, whose `submit` passes on what its caller promised.

pub mod delay;
pub mod fault;
mod forward;
mod random;
mod slots;
mod spec;
mod stack;
pub mod stats;

pub use spec::{
    Action, DelayRule, DelaySpec, Distribution, FaultRule, FaultSpec, LAYERS_MAX, LayerSpec, Op,
    SCHEMA, SpecError, StatsSpec, parse, parse_one,
};
pub use stack::{LayerState, RuleState, Stack};
pub use stats::Row;
