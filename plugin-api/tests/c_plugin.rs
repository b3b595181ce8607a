//! A plugin in C, built with `cc` alone: it carries its manifest, loads through the C entry, and
//! keeps the same promises as those in Rust.

use daos_plugin_api::abi::{
    ABI_MAJOR, ABI_MINOR, C_ENTRY, CEntry, NOTE_OWNER, NOTE_RUST, NOTE_SECTION, NOTE_TYPE,
    PluginTable,
};
use daos_plugin_api::conformance::{Target, check};
use daos_plugin_api::control::{ClassKind, Manifest};
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{Endianness, ReadRef};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds the plugin with warnings as errors.
fn build(extra: &[&str]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temp dir");
    let out = dir.path().join("libdaos_c_malloc.so");
    let status = Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-O1",
            "-shared",
            "-fPIC",
        ])
        .args(extra)
        .arg("-I")
        .arg(root().join("plugin-api/include"))
        .arg("-o")
        .arg(&out)
        .arg(root().join("tests/c/malloc.c"))
        .status()
        .expect("cc runs");
    assert!(status.success(), "cc failed");
    (dir, out)
}

#[test]
fn a_plugin_in_c_keeps_every_promise() {
    let (_dir, file) = build(&[]);
    // SAFETY: the library has no initialisers; it stays loaded for ever (leaked below).
    let library = Box::leak(Box::new(
        unsafe { libloading::Library::new(&file) }.expect("loads"),
    ));
    // SAFETY: the symbol has this type by the interface.
    let entry = unsafe { library.get::<CEntry>(C_ENTRY.as_bytes()) }.expect("the C entry");
    // SAFETY: the entry takes any version.
    let other = unsafe { entry(ABI_MAJOR + 1, 0) };
    assert!(other.is_null(), "another major");
    // SAFETY: the entry returns null or its static table.
    let table: &'static PluginTable =
        unsafe { entry(ABI_MAJOR, ABI_MINOR).as_ref() }.expect("the table");
    let target = Target::new(
        ClassKind::Bdev,
        "c-malloc",
        json!({"bdev_number": 2, "bdev_size_mib": 16}),
    )
    .nonsense(json!({"bdev_number": 9, "bdev_size_mib": 16}))
    .nonsense(json!({"bdev_size_mib": 0}))
    .nonsense(json!({}))
    .loaded();
    let summary = check(table, target);
    assert!(summary.counts().passed >= 40, "{summary}");
}

#[test]
fn the_manifest_is_read_without_running_the_plugin_also_when_stripped() {
    for extra in [&[][..], &["-s", "-Wl,--gc-sections", "-ffunction-sections"]] {
        let (_dir, file) = build(extra);
        let bytes = fs::read(file).expect("read the library");
        let manifest = note(&bytes);
        assert_eq!(manifest.name, "c-malloc");
        assert!(manifest.classes[0].ephemeral);
    }
}

/// Parses the note as a host does: by section, owner and type.
fn note(bytes: &[u8]) -> Manifest {
    let elf = ElfFile64::<Endianness>::parse(bytes).expect("ELF");
    let endian = elf.endian();
    let sections = elf.elf_header().sections(endian, bytes).expect("sections");
    let section = sections.section_by_name(endian, NOTE_SECTION.as_bytes());
    let (_, section) = section.expect("the section of the note");
    let mut notes = section
        .notes(endian, bytes)
        .expect("in the file")
        .expect("of type NOTE");
    let note = notes.next().expect("well formed").expect("one note");
    assert!(
        notes.next().expect("well formed").is_none(),
        "only one note"
    );
    assert_eq!(note.name_bytes(), NOTE_OWNER);
    assert_eq!(note.n_type(endian).0, NOTE_TYPE);
    let descriptor = note.desc();
    let word = |at: usize| {
        descriptor
            .read_at::<u32>(at as u64)
            .copied()
            .expect("the header")
    };
    let half = |at: usize| {
        descriptor
            .read_at::<u16>(at as u64)
            .copied()
            .expect("the header")
    };
    assert_eq!((half(0), half(2)), (ABI_MAJOR, ABI_MINOR));
    assert_eq!(word(4) & NOTE_RUST, 0);
    let json = &descriptor[12..12 + word(8) as usize];
    serde_json::from_slice(json).expect("manifest JSON")
}
