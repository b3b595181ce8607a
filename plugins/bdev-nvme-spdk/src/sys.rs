//! Generated bindings of SPDK and the shim. Nothing here is safe; the modules above wrap it.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub
)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, dead_code)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
