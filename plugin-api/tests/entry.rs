//! The entries and the manifest note: symbol, layout, encoding, and what a plugin built with
//! panic=abort says of itself.

mod cdylib;
mod support;

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use daos_plugin_api::abi::{
    ABI_MAJOR, ABI_MINOR, C_ENTRY, NOTE_OWNER, NOTE_PANIC_ABORT, NOTE_RUST, NOTE_TYPE, Note,
    PluginModuleRef, PluginTable, RUST_ENTRY,
};
use daos_plugin_api::host::{Instance, InstanceOptions};
use daos_plugin_api::sdk::{Plugin, built_ins, thunks};
use support::MemoryBdev;

#[test]
fn the_rust_entry_is_the_symbol_that_abi_stable_looks_for() {
    assert_eq!(
        RUST_ENTRY,
        abi_stable_shared::mangled_root_module_loader_name()
    );
}

#[test]
fn the_interface_version_is_at_least_one() {
    // With 0.x, abi_stable refuses older minors outright.
    const { assert!(ABI_MAJOR >= 1) };
    let version = format!("{ABI_MAJOR}.{ABI_MINOR}.");
    assert!(env!("CARGO_PKG_VERSION").starts_with(&version));
}

#[test]
fn the_layout_is_compatible_with_itself() {
    let layout = PluginModuleRef::LAYOUT;
    check_layout_compatibility(layout, layout).expect("compatible");
}

#[test]
fn both_entries_lead_to_the_same_table() {
    let table = thunks::table::<MemoryBdev>();
    let module = thunks::root_module::<MemoryBdev>();
    let plugin = module.plugin();
    assert_eq!(plugin.size() as usize, size_of::<PluginTable>());
    assert_eq!(plugin.abi_major(), ABI_MAJOR);
    assert_eq!(plugin.create() as usize, table.create as usize);
    assert!(std::ptr::eq(plugin.bdev().0, table.bdev.0));
    assert!(std::ptr::eq(plugin.control().0, table.control.0));
    assert!(table.scm.0.is_null() && table.fabric.0.is_null());
}

#[test]
fn a_declared_plugin_is_a_built_in_of_the_binary_that_links_it() {
    let found: Vec<_> = built_ins().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].manifest, MemoryBdev::MANIFEST);
    assert!(std::ptr::eq(
        (found[0].table)(),
        thunks::table::<MemoryBdev>()
    ));
}

fn bytes_of<const N: usize>(note: &Note<N>) -> Vec<u8> {
    let len = size_of::<Note<N>>();
    // SAFETY: the note is alive; padding at its end is read as whatever it is and cut off below.
    let bytes =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(note).cast::<u8>(), 32 + N) };
    assert!(len >= bytes.len() && len.is_multiple_of(4));
    bytes.to_vec()
}

#[test]
fn the_note_is_encoded_as_system_v_says() {
    const JSON: &str = r#"{"a":1}"#;
    let bytes = bytes_of(&Note::<{ JSON.len() }>::new(JSON, NOTE_RUST));
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!(word(0) as usize, NOTE_OWNER.len());
    assert_eq!(word(4) as usize, 12 + JSON.len());
    assert_eq!(word(8), NOTE_TYPE);
    assert_eq!(&bytes[12..17], NOTE_OWNER);
    assert_eq!(bytes[17..20], [0; 3]);
    assert_eq!(word(20), u32::from(ABI_MAJOR) | u32::from(ABI_MINOR) << 16);
    assert_eq!(word(24), NOTE_RUST);
    assert_eq!(word(28) as usize, JSON.len());
    assert_eq!(&bytes[32..], JSON.as_bytes());
}

#[test]
fn a_shared_object_has_both_entries_and_a_truthful_note() {
    for (flags, expected) in [
        (&["-Cpanic=unwind"][..], NOTE_RUST),
        (&["-Cpanic=abort"][..], NOTE_RUST | NOTE_PANIC_ABORT),
        (&["-Copt-level=2", "-Cstrip=symbols"][..], NOTE_RUST),
    ] {
        let built = cdylib::build(flags);
        for symbol in [RUST_ENTRY, C_ENTRY] {
            assert!(
                built.exports.iter().any(|name| name == symbol),
                "{flags:?}: {symbol} is not among {:?}",
                built.exports
            );
        }
        assert_eq!(built.note_flags, expected, "{flags:?}");
        assert_eq!(built.manifest, cdylib::MANIFEST, "{flags:?}");
    }
}

fn refusal(table: PluginTable) -> String {
    let table: &'static PluginTable = Box::leak(Box::new(table));
    let error = Instance::create(table, InstanceOptions::built_in()).err();
    error.expect("refused").to_string()
}

/// A copy of the test plugin's table to change.
fn copy() -> PluginTable {
    // SAFETY: tables are plain data.
    unsafe { std::ptr::read(thunks::table::<MemoryBdev>()) }
}

#[test]
fn a_table_of_another_major_is_refused_in_one_sentence_with_both_versions() {
    let mut table = copy();
    table.abi_major = ABI_MAJOR + 1;
    table.abi_minor = 7;
    let text = refusal(table);
    assert!(text.contains(&format!("{}.7", ABI_MAJOR + 1)), "{text}");
    assert!(text.contains(&format!("{ABI_MAJOR}.{ABI_MINOR}")), "{text}");
    assert!(text.len() < 300 && !text.contains('\n'), "{text}");
}

#[test]
fn a_table_of_a_newer_minor_serves_this_host() {
    let mut table = copy();
    table.abi_minor = ABI_MINOR + 1;
    table.size += 64;
    let table: &'static PluginTable = Box::leak(Box::new(table));
    Instance::create(table, InstanceOptions::built_in()).expect("its first members are known");
}

#[test]
fn a_truncated_table_or_manifest_is_refused_before_it_is_called() {
    let mut table = copy();
    table.size -= 8;
    let text = refusal(table);
    assert!(text.contains("PluginTable"), "{text}");
    let mut table = copy();
    table.control = daos_plugin_api::abi::ControlTablePtr::NULL;
    assert!(refusal(table).contains("control"));
    let mut table = copy();
    table.manifest = daos_plugin_api::abi::Str::new("{");
    assert!(refusal(table).contains("manifest"));
}

#[test]
fn members_are_known_by_the_size_of_the_table() {
    let table = copy();
    assert!(daos_plugin_api::has_member!(table, PluginTable, fabric));
    let mut older = copy();
    older.size -= size_of::<usize>() as u32;
    assert!(!daos_plugin_api::has_member!(older, PluginTable, fabric));
    assert!(daos_plugin_api::has_member!(older, PluginTable, scm));
}
