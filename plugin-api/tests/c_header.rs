//! The C header is made from the Rust definitions; the checked-in one is current, and a C compiler
//! sees every record as Rust does.

mod header;

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_checked_in_header_is_current() {
    let made = header::with_section(&header::generate());
    let path = header::path();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).expect("write the header");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let line = kept.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        kept == made,
        "include/daos_plugin.h is not current (line {:?}); make it anew with \
         UPDATE=1 cargo test -p daos-plugin-api --test c_header",
        line.map(|n| n + 1)
    );
}

#[test]
fn all_names_of_the_header_are_prefixed() {
    let made = header::with_section(&header::generate());
    for line in made.lines() {
        let name = if let Some(rest) = line.strip_prefix("#define ") {
            rest.split([' ', '(']).next().unwrap_or_default()
        } else if let Some(rest) = line.strip_prefix("} ").filter(|r| r.ends_with(';')) {
            rest.trim_end_matches(';')
        } else {
            continue;
        };
        assert!(
            name.starts_with("daos_") || name.starts_with("DAOS_"),
            "{line}"
        );
    }
    for rust in ["BdevTable", "FabricRequest", "::", "`"] {
        assert!(!made.contains(rust), "{rust} is left over");
    }
}

fn compile(source: &str, name: &str, flags: &[&str]) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join(name);
    fs::write(&file, source).expect("write the source");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let output = Command::new("cc")
        .args(flags)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-c", "-o"])
        .arg(dir.path().join("out.o"))
        .arg("-I")
        .arg(include)
        .arg(&file)
        .output()
        .expect("cc runs");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn c_and_rust_agree_on_every_size_and_offset() {
    let source = header::layout_check();
    assert!(source.matches("_Static_assert").count() > 150);
    compile(&source, "layout.c", &["-std=c11"]).unwrap_or_else(|e| panic!("{e}"));
    // The check can fail.
    let wrong = source.replacen("== 16", "== 17", 1);
    assert_ne!(source, wrong);
    compile(&wrong, "layout.c", &["-std=c11"]).expect_err("a wrong size is noticed");
}

#[test]
fn the_header_compiles_alone_in_strict_c_and_cpp() {
    let source = "#include \"daos_plugin.h\"\n";
    let manifest = format!(
        "{source}DAOS_PLUGIN_MANIFEST(\"{{}}\");\n\
         const daos_str *manifest(void);\n\
         const daos_str *manifest(void) {{ return &daos_plugin_manifest; }}\n"
    );
    for source in [source, &manifest] {
        for standard in ["-std=c11", "-std=c17"] {
            compile(source, "alone.c", &[standard]).unwrap_or_else(|e| panic!("{standard}: {e}"));
        }
    }
    let flags = ["-std=c++14", "-x", "c++", "-Wno-pedantic"];
    compile(source, "alone.cc", &flags).unwrap_or_else(|e| panic!("C++: {e}"));
}
