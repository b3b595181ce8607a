//! Maps a plugin into this process and finds its table.
//!
//! Libraries are never unloaded: tables, threads and thread-local destructors of a plugin may
//! outlive any moment one could choose.

use crate::info::AbiVersion;
use crate::layout::{LayoutMismatch, compatible_layouts};
use crate::signals::Handlers;
use abi_stable::StableAbi as _;
use abi_stable::library::AbiHeaderRef;
use daos_plugin_api::abi::{
    ABI_MAJOR, ABI_MINOR, C_ENTRY, CEntry, PluginModuleRef, PluginTable, RUST_ENTRY,
};
use daos_plugin_api::host::plugin_table;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::mem::ManuallyDrop;
use std::path::Path;

/// Why a mapped library has no usable table.
#[derive(Debug)]
pub(crate) enum EntryError {
    /// A symbol is missing, or the entry refused.
    Entry(String),
    /// The tables are laid out differently.
    Layout(Box<LayoutMismatch>),
}

/// A library that stays mapped for the life of the process.
pub(crate) struct Mapped(ManuallyDrop<Library>);

/// Maps `path`, which contains a slash, so that the linker's search rules do not apply to it.
pub(crate) fn map(path: &Path) -> Result<Mapped, String> {
    // NOW: a missing symbol is an error here and not a crash later. LOCAL: plugins do not see each
    // other's symbols. NODELETE: not even a `dlclose` of the plugin's own can unmap it.
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    let handlers = Handlers::save();
    // SAFETY: loading runs the library's constructors, that is, code of the plugin. The caller has
    // checked that it is trusted to run in this process.
    let opened = unsafe { Library::open(Some(path), flags) };
    let changed = handlers.restore();
    if !changed.is_empty() {
        tracing::debug!(path = %path.display(), signals = ?changed, "put signal handlers back");
    }
    opened
        .map(|library| Mapped(ManuallyDrop::new(library)))
        .map_err(|e| linkers_words(&e))
}

/// What the dynamic linker said: the error itself only says which call failed.
fn linkers_words(error: &libloading::Error) -> String {
    use std::error::Error as _;
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// Table of a Rust plugin, through its root module.
///
/// `RootModule::load_from_*` is of no use here: it keeps one module per interface type, so a second
/// plugin would get the table of the first.
pub(crate) fn rust_table(
    mapped: &Mapped,
    plugin: AbiVersion,
) -> Result<&'static PluginTable, EntryError> {
    let entry = |e: String| EntryError::Entry(e);
    // SAFETY: abi_stable's export has this type, and starts with a magic string and version that
    // `upgrade` checks before anything else; the library is never unmapped.
    let header = unsafe { mapped.0.get::<AbiHeaderRef>(RUST_ENTRY.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|e| entry(format!("no Rust entry: {}", linkers_words(&e))))?
        .upgrade()
        .map_err(|_| entry("its SDK uses another version of abi_stable".to_owned()))?;
    let layout = header
        .layout()
        .ok_or_else(|| entry("its Rust entry carries no layout".to_owned()))?;
    compatible_layouts(PluginModuleRef::LAYOUT, layout, plugin)
        .map_err(|e| EntryError::Layout(Box::new(e)))?;
    // SAFETY: the layouts agree in one direction or the other. If the plugin has more members, the
    // host does not look at them; if it has fewer, the tables' leading sizes say so, which is where
    // `plugin_table` and the host's tables look. The call still checks the interface's major version.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModuleRef>() }
        .map_err(|e| entry(first_line(&e.to_string())))?;
    let prefix = module.plugin().0.prefix();
    // The prefix of a table is the table: its last member is the last prefix member.
    table(std::ptr::from_ref(prefix).cast::<PluginTable>())
}

/// Table of a plugin that has only the C entry.
pub(crate) fn c_table(mapped: &Mapped) -> Result<&'static PluginTable, EntryError> {
    // SAFETY: the symbol's name promises this signature (the header and the SDK define it).
    let pointer = unsafe {
        let symbol = mapped
            .0
            .get::<CEntry>(C_ENTRY.as_bytes())
            .map_err(|e| EntryError::Entry(format!("no C entry: {}", linkers_words(&e))))?;
        symbol(ABI_MAJOR, ABI_MINOR)
    };
    table(pointer)
}

/// Turns the plugin's pointer into a table of this host's version.
fn table(pointer: *const PluginTable) -> Result<&'static PluginTable, EntryError> {
    // SAFETY: the plugin's entry calls it its root table, and the library is never unmapped.
    unsafe { plugin_table(pointer) }.map_err(|error| {
        let text = match error.cause.is_empty() {
            true => error.what,
            false => format!("{} ({})", error.what, error.cause),
        };
        EntryError::Entry(text)
    })
}

/// The manifest that the table points to.
pub(crate) fn manifest_of(table: &'static PluginTable) -> &'static [u8] {
    let text = table.manifest;
    if text.ptr.is_null() {
        return &[];
    }
    // SAFETY: a static text of the plugin, by the contract of the member.
    unsafe { std::slice::from_raw_parts(text.ptr, text.len) }
}

fn first_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .find(|l| !l.is_empty())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_library_that_is_mapped_changes_no_signal_handlers() {
        let scratch = tempfile::tempdir().unwrap();
        let (source, library) = (scratch.path().join("l.c"), scratch.path().join("libl.so"));
        let text = "#include <signal.h>\nint ran;\nstatic void handle(int s) { (void)s; }\n\
                    __attribute__((constructor)) static void start(void) { signal(SIGUSR2, handle); ran = 1; }\n";
        std::fs::write(&source, text).unwrap();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status()
            .expect("a C compiler");
        assert!(status.success());
        let before = Handlers::save();
        let mapped = map(&library).unwrap();
        // SAFETY: the variable of the text above.
        let ran = unsafe { **mapped.0.get::<*const libc::c_int>(b"ran").unwrap() };
        assert_eq!(ran, 1, "the constructor ran");
        assert_eq!(
            before.restore(),
            [] as [libc::c_int; 0],
            "nothing is left to put back"
        );
    }
}
