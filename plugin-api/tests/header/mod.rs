//! Makes the C header out of the Rust definitions: cbindgen reads the sources, this module gives the
//! names their C spelling and adds what cbindgen cannot see (codes made by a macro, layout
//! assertions, the manifest note).

pub(crate) mod layout;
mod words;

use cbindgen::{Builder, Config, Language, Style};
use daos_plugin_api::abi::{ABI_MAJOR, ABI_MINOR, NOTE_SECTION, Status};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use words::Words;

const MODULES: &[&str] = &["types", "bdev", "scm", "fabric", "plugin", "entry"];

/// Types that reach all others.
const ROOTS: &[&str] = &[
    "PluginTable",
    "ControlTable",
    "DeviceAdminTable",
    "BdevTable",
    "ScmTable",
    "FabricTable",
    "NoteHeader",
    "CEntry",
];

/// Pointers to tables, which a macro defines.
const TABLES: &[&str] = &[
    "ControlTable",
    "DeviceAdminTable",
    "BdevTable",
    "ScmTable",
    "FabricTable",
];

/// The whole header.
pub(crate) fn generate() -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/abi");
    let mut config = Config {
        language: Language::C,
        style: Style::Both,
        no_includes: true,
        documentation: true,
        line_length: 90,
        ..Config::default()
    };
    config.export.include = ROOTS.iter().map(|s| (*s).to_owned()).collect();
    let mut builder = Builder::new().with_config(config);
    for module in MODULES {
        builder = builder.with_src(sources.join(format!("{module}.rs")));
    }
    let mut raw = Vec::new();
    let bindings = builder.generate().expect("cbindgen reads the definitions");
    bindings.write(&mut raw);
    let raw = String::from_utf8(raw).expect("cbindgen writes UTF-8");
    let words = Words::of(&raw, TABLES);

    let mut out = prelude();
    for table in TABLES {
        let name = words.type_name(table);
        let _ = writeln!(out, "typedef const struct {name} *{name}_ptr;");
    }
    out.push('\n');
    statuses(&mut out, &sources, &words);
    for line in raw.trim().lines() {
        out.push_str(&words.line(line));
        out.push('\n');
    }
    out.push_str(&assertions(&words));
    out.push_str(EPILOGUE);
    out
}

fn prelude() -> String {
    format!(
        r#"/*
 * The interface between a DAOS storage-node daemon and its SCM, block-device and fabric plugins.
 *
 * Generated from the Rust definitions in plugin-api/src/abi; do not edit. To make it anew:
 *     UPDATE=1 cargo test -p daos-plugin-api --test c_header
 *
 * A plugin in C includes this file, states its manifest with DAOS_PLUGIN_MANIFEST, fills the tables
 * and defines daos_plugin_entry_v1. "daos_server plugin new bdev-acme --c" writes a whole one.
 */
#ifndef DAOS_PLUGIN_H
#define DAOS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

/** Major version of the interface: a host loads only plugins of its own major. */
#define DAOS_ABI_MAJOR {ABI_MAJOR}
/** Minor version of the interface: tables have grown this many times since the major. */
#define DAOS_ABI_MINOR {ABI_MINOR}

"#
    )
}

/// The codes, whose definitions a macro makes: `NAME = 1, "text";` after a line of documentation.
fn statuses(out: &mut String, sources: &Path, words: &Words) {
    let source = fs::read_to_string(sources.join("types.rs")).expect("the definitions are there");
    let start = source.find("statuses! {").expect("the list of codes");
    let list = source[start..].split("\n}").next().unwrap_or_default();
    let mut found = 0;
    let mut doc = String::new();
    for line in list.lines().skip(1).map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc = words.comment(text.trim());
        } else if let Some((name, rest)) = line.split_once(" = ") {
            let value = rest.split(',').next().unwrap_or_default();
            let _ = writeln!(out, "/** {doc} */\n#define DAOS_STATUS_{name} {value}");
            assert_eq!(value.parse(), Ok(Status::ALL[found].0), "{name}");
            found += 1;
        }
    }
    assert_eq!(found, Status::ALL.len(), "every code is in the header");
    out.push('\n');
}

fn assertions(words: &Words) -> String {
    let mut out = String::from(
        "\n/* Sizes as the host's compiler sees them. */\n\
         #if !defined(__cplusplus) && UINTPTR_MAX == UINT64_MAX\n",
    );
    for record in layout::records() {
        let name = words.type_name(record.name);
        let _ = writeln!(
            out,
            "_Static_assert(sizeof({name}) == {}, \"size of {name}\");",
            record.size
        );
    }
    out.push_str("#endif\n");
    out
}

const EPILOGUE: &str = r#"
/** A text literal as a daos_str, for initialisers. */
#define DAOS_STR(literal) { (const uint8_t *)("" literal), sizeof(literal) - 1 }

/** States the manifest (JSON, a string literal) once per plugin: emits the ELF note that hosts read
 *  without running the plugin, and defines daos_plugin_manifest for the root table. */
#define DAOS_PLUGIN_MANIFEST(json)                                                                 \
  __attribute__((section("@SECTION@"), used, aligned(4))) static const struct {            \
    uint32_t namesz;                                                                               \
    uint32_t descsz;                                                                               \
    uint32_t type;                                                                                 \
    char owner[8];                                                                                 \
    daos_note_header header;                                                                       \
    char text[sizeof(json)];                                                                       \
  } daos_plugin_note = { 5,                                                                        \
                         sizeof(daos_note_header) + sizeof(json),                                  \
                         DAOS_NOTE_TYPE,                                                           \
                         "DAOS",                                                                   \
                         { DAOS_ABI_MAJOR, DAOS_ABI_MINOR, 0, sizeof(json) - 1 },                  \
                         json };                                                                   \
  static const daos_str daos_plugin_manifest = DAOS_STR(json)

/** The entry that a C plugin defines: its static table, or NULL for a host it cannot serve. */
__attribute__((visibility("default"))) const daos_plugin_table *
daos_plugin_entry_v1(uint16_t host_major, uint16_t host_minor);

#ifdef __cplusplus
}
#endif

#endif /* DAOS_PLUGIN_H */
"#;

/// The checked-in header's place.
pub(crate) fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include/daos_plugin.h")
}

/// A C program whose compilation compares every offset and size with the Rust side.
pub(crate) fn layout_check() -> String {
    let words = Words::of(&generate_types(), TABLES);
    let mut out = String::from("#include \"daos_plugin.h\"\n");
    for record in layout::records() {
        let name = words.type_name(record.name);
        let _ = writeln!(
            out,
            "_Static_assert(sizeof({name}) == {}, \"size of {name}\");\n\
             _Static_assert(_Alignof({name}) == {}, \"alignment of {name}\");",
            record.size, record.align
        );
        for (field, offset) in record.fields {
            // cbindgen's spelling of a member that is a keyword of C.
            let field = if field == "register" {
                "register_"
            } else {
                field
            };
            let _ = writeln!(
                out,
                "_Static_assert(offsetof({name}, {field}) == {offset}, \"{name}.{field}\");"
            );
        }
    }
    out.push_str("int main(void) { return 0; }\n");
    out
}

/// Names of all record types, spelled as a source that defines them.
fn generate_types() -> String {
    layout::records()
        .iter()
        .map(|r| format!("typedef struct {} {{\n", r.name))
        .collect()
}

/// The section name must be the one that hosts look for.
pub(crate) fn with_section(header: &str) -> String {
    header.replace("@SECTION@", NOTE_SECTION)
}
