//! A host built with another release of the plugin interface: loads a plugin through one of its entries, as that
//! release's crate does by itself, and runs that release's suite on it.
//!
//! `abi-host rust|c FILE KIND CLASS CONFIG`; prints each case, then the versions of host and plugin.

use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR, C_ENTRY, CEntry, PluginModuleRef, PluginTable};
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::ClassKind;
use daos_plugin_api::sdk::abi_stable::library::RootModule;
use std::mem::ManuallyDrop;
use std::path::Path;

/// Through abi_stable, which compares the layouts of all tables.
fn rust_entry(file: &Path) -> &'static PluginTable {
    let module = PluginModuleRef::load_from_file(file).unwrap_or_else(|e| panic!("{e}"));
    let prefix = std::ptr::from_ref(module.plugin().0.prefix());
    // SAFETY: the prefix of the root table is all that its first version has, and tables begin alike in all versions
    // of a major; it is a static of the plugin.
    unsafe { &*prefix.cast::<PluginTable>() }
}

/// By the symbol, as of a plugin in C.
fn c_entry(file: &Path) -> &'static PluginTable {
    // SAFETY: it is the plugin under test; it stays mapped, since it is never dropped.
    let library =
        ManuallyDrop::new(unsafe { libloading::Library::new(file) }.expect("it can be mapped"));
    // SAFETY: the symbol's name promises this type; the table is a static of the plugin.
    unsafe {
        let entry = library
            .get::<CEntry>(C_ENTRY.as_bytes())
            .expect("the C entry");
        entry(ABI_MAJOR, ABI_MINOR)
            .as_ref()
            .expect("a table for this host")
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [entry, file, kind, class, config] = &arguments[..] else {
        panic!("usage: abi-host rust|c FILE KIND CLASS CONFIG");
    };
    let file = Path::new(file);
    let table = match entry.as_str() {
        "rust" => rust_entry(file),
        "c" => c_entry(file),
        other => panic!("{other} is no entry"),
    };
    let kind = match kind.as_str() {
        "bdev" => ClassKind::Bdev,
        "scm" => ClassKind::Scm,
        "fabric" => ClassKind::Fabric,
        other => panic!("{other} is no kind"),
    };
    let config = serde_json::from_str(config).expect("a JSON object");
    let summary = check(table, Target::new(kind, class, config).loaded());
    println!(
        "host {ABI_MAJOR}.{ABI_MINOR}, plugin {}.{}: {} cases passed",
        table.abi_major,
        table.abi_minor,
        summary.counts().passed
    );
}
