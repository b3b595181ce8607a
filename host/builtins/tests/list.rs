//! The exact list: a plugin that the linker dropped, or that somebody added, is noticed here.

#[test]
fn the_exact_list() {
    let names: Vec<String> = daos_builtins::all()
        .into_iter()
        .map(daos_builtins::name)
        .collect();
    assert_eq!(names, daos_builtins::NAMES);
    assert_eq!(
        names,
        [
            "bdev-file",
            "bdev-kdev",
            "bdev-malloc",
            "fabric-tcp",
            "scm-ram"
        ]
    );
}

#[test]
fn every_table_carries_the_manifest_of_its_registration() {
    for built_in in daos_builtins::all() {
        let table = (built_in.table)();
        assert_eq!(table.manifest.len, built_in.manifest.len());
        assert_eq!(table.abi_major, daos_plugin_api::abi::ABI_MAJOR);
    }
}
