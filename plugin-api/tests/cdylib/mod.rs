//! Builds a small plugin as a shared object with `rustc` alone, against the interface that this
//! test was built with, and reads it without loading it.

use daos_plugin_api::abi::NOTE_SECTION;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{Endianness, Object, ObjectSymbol, ReadRef};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The manifest of the plugin.
pub(crate) const MANIFEST: &str = r#"{"name":"tiny","version":"1.0.0","classes":[]}"#;

const SOURCE: &str = r##"
use daos_plugin_api::sdk::{CallContext, Host, Plugin, Result};
pub struct Tiny;
daos_plugin_api::declare_plugin!(Tiny);
impl Plugin for Tiny {
    const MANIFEST: &'static str = r#"@MANIFEST@"#;
    fn create(
        _: Host,
        _: CallContext<'_>,
        _: daos_plugin_api::sdk::serde_json::Map<String, daos_plugin_api::sdk::serde_json::Value>,
    ) -> Result<Self> {
        Ok(Self)
    }
}
daos_plugin_api::export_plugin!(Tiny);
"##;

/// What a host can read from the file.
pub(crate) struct Built {
    pub(crate) exports: Vec<String>,
    pub(crate) note_flags: u32,
    pub(crate) manifest: String,
}

/// Builds and reads the plugin.
pub(crate) fn build(flags: &[&str]) -> Built {
    let dir = tempfile::tempdir().expect("temp dir");
    let source = dir.path().join("tiny.rs");
    fs::write(&source, SOURCE.replace("@MANIFEST@", MANIFEST)).expect("write the source");
    let out = dir.path().join("libtiny.so");
    let mut complaints = String::new();
    for library in interfaces() {
        let output = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
            .args(["--edition=2024", "--crate-type=cdylib", "--crate-name=tiny"])
            .args(flags)
            .arg("--extern")
            .arg(format!("daos_plugin_api={}", library.display()))
            .arg("-L")
            .arg(format!("dependency={}", dependencies().display()))
            .arg("-o")
            .arg(&out)
            .arg(&source)
            .output()
            .expect("rustc runs");
        if output.status.success() {
            return read(&fs::read(&out).expect("read the library"));
        }
        complaints += &String::from_utf8_lossy(&output.stderr);
    }
    panic!("the plugin does not build:\n{complaints}");
}

fn dependencies() -> PathBuf {
    let exe = std::env::current_exe().expect("this test");
    exe.parent().map(Path::to_owned).expect("a directory")
}

/// Builds of the interface beside this test, newest first: a target directory may hold several.
fn interfaces() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dependencies())
        .expect("list the dependencies")
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("libdaos_plugin_api-") && name.ends_with(".rlib")
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

fn read(bytes: &[u8]) -> Built {
    let elf = ElfFile64::<Endianness>::parse(bytes).expect("ELF");
    let endian = elf.endian();
    let sections = elf.elf_header().sections(endian, bytes).expect("sections");
    let section = sections.section_by_name(endian, NOTE_SECTION.as_bytes());
    let (_, section) = section.expect("the section of the note");
    let notes = section.notes(endian, bytes).expect("in the file");
    let note = notes.expect("of type NOTE").next().expect("well formed");
    let note = note.expect("a note");
    let descriptor = note.desc();
    let word = |at: u64| *descriptor.read_at::<u32>(at).expect("the header");
    let manifest = &descriptor[12..12 + word(8) as usize];
    Built {
        exports: elf
            .dynamic_symbols()
            .filter(|s| s.is_definition() && s.is_global())
            .filter_map(|s| s.name().map(str::to_owned).ok())
            .collect(),
        note_flags: word(4),
        manifest: String::from_utf8_lossy(manifest).into_owned(),
    }
}
