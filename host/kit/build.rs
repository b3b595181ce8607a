//! Puts the interface crate and the C header into the program, so that whoever has the program has the
//! interface: lists their files for `include_str!`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What a plugin's dependency needs of this repository's list of dependencies.
const DEPENDENCIES: [&str; 5] = ["abi_stable", "inventory", "serde", "serde_json", "tracing"];

fn main() {
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../..");
    let root = root.canonicalize().expect("the repository");
    let api = root.join("plugin-api");
    let mut files = Vec::new();
    collect(&api.join("src"), &mut files);
    files.push(api.join("include/daos_plugin.h"));
    files.sort();
    let mut text = "/// Files of the interface crate: path inside it, content.\npub(super) static FILES: &[(&str, &str)] = &[\n".to_owned();
    for file in &files {
        let inside = file.strip_prefix(&api).expect("inside the crate");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    ({inside:?}, include_str!({file:?})),");
    }
    text += "];\n";
    let manifest = manifest(&root, &api);
    let _ = writeln!(
        text,
        "/// Its manifest, without this repository around it.\npub(super) const MANIFEST: &str = {manifest:?};"
    );
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("interface.rs"), text).expect("write the list");
    for path in [
        "plugin-api/src",
        "plugin-api/include",
        "plugin-api/Cargo.toml",
        "Cargo.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory)
        .expect("a directory of sources")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn manifest(root: &Path, api: &Path) -> String {
    let workspace = fs::read_to_string(root.join("Cargo.toml")).expect("readable");
    let own = fs::read_to_string(api.join("Cargo.toml")).expect("readable");
    let line = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(&format!("{key} = ")));
        line.unwrap_or_else(|| panic!("no line {key}")).to_owned()
    };
    let mut text = format!(
        "[package]\nname = \"daos-plugin-api\"\n{}\n{}\n{}\n{}\n{}\npublish = false\n\n[features]\ndefault = []\nhost = []\n\
         conformance = [\"host\"]\n\n[dependencies]\n",
        line(&own, "version"),
        line(&own, "description"),
        line(&workspace, "edition"),
        line(&workspace, "rust-version"),
        line(&workspace, "license"),
    );
    for name in DEPENDENCIES {
        text += &(line(&workspace, name) + "\n");
    }
    text
}
