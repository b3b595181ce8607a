//! The shared object of plugin `fabric-ofi`; empty where that was not built.

fabric_ofi::export!();
