//! Plugins linked into the host's own binary.

use crate::abi::PluginTable;

/// A plugin of this binary, registered by [`declare_plugin!`](crate::declare_plugin).
pub struct BuiltIn {
    /// Manifest JSON.
    pub manifest: &'static str,
    /// Its table; the same one that a shared object of this plugin exports.
    pub table: fn() -> &'static PluginTable,
}

inventory::collect!(BuiltIn);

/// All plugins linked into this binary, in no particular order. The linker drops crates that
/// nothing refers to, so the binary names each one (`use bdev_file as _;`) and a test asserts
/// the exact list.
pub fn built_ins() -> impl Iterator<Item = &'static BuiltIn> {
    inventory::iter::<BuiltIn>.into_iter()
}
