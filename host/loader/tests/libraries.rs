//! Libraries that a plugin pulls in are held to the same rule. Needs a C compiler, as any Rust build
//! does.

use daos_loader::{Found, LoadError, PluginFile, Policy, Refusal, Trust, load};
use fixture_files::chmod;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLUGIN: &str = r#"
extern int helper(void);
int use_it(void) { return helper(); }
#define JSON "{\"name\":\"c-x\",\"version\":\"1\",\"classes\":[{\"kind\":\"bdev\",\"name\":\"c-x\"}]}"
#define LEN (sizeof JSON - 1)
__attribute__((section(".note.daos.plugin"), used, aligned(4)))
static const struct { unsigned namesz, descsz, type; char name[8]; unsigned short major, minor;
  unsigned flags, len; char json[LEN]; } note =
  { 5, 12 + LEN, 0x504c5547, "DAOS", 1, 0, 0, LEN, JSON };
"#;

fn cc(arguments: &[&str], source: &str, out: &Path) {
    let input = out.with_extension("c");
    std::fs::write(&input, source).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([out, &input])
        .args(arguments)
        .status()
        .expect("a C compiler");
    assert!(status.success());
}

/// `base/plugins/x.so` that needs `base/lib/libhelper.so`, found through `run_path`.
fn build(base: &Path, run_path: &str) -> PathBuf {
    let (lib, plugins) = (base.join("lib"), base.join("plugins"));
    for directory in [&lib, &plugins] {
        std::fs::create_dir_all(directory).unwrap();
        chmod(directory, 0o755);
    }
    cc(
        &[],
        "int helper(void) { return 1; }",
        &lib.join("libhelper.so"),
    );
    let plugin = plugins.join("x.so");
    let search = format!("-L{}", lib.display());
    let run_path = format!("-Wl,--enable-new-dtags,-rpath,{run_path}");
    // The C library as well, though nothing of it is used.
    let libc = ["-Wl,--no-as-needed", "-lc"];
    let arguments = [&*search, "-lhelper", &*run_path, libc[0], libc[1]];
    cc(&arguments, PLUGIN, &plugin);
    std::fs::remove_file(plugins.join("x.c")).unwrap();
    plugin
}

fn inspect(path: &Path) -> Result<String, Refusal> {
    PluginFile::inspect(path, &Policy::default()).map(|i| i.name().to_owned())
}

#[test]
fn a_private_library_must_be_trustworthy_too() {
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().canonicalize().unwrap();
    for run_path in [
        "$ORIGIN/../lib".to_owned(),
        base.join("lib").display().to_string(),
    ] {
        let plugin = build(&base, &run_path);
        assert_eq!(inspect(&plugin).unwrap(), "c-x");
        chmod(&base.join("lib/libhelper.so"), 0o777);
        let refusal = inspect(&plugin).unwrap_err();
        assert_eq!(refusal.code(), "writable", "{refusal}");
        assert!(refusal.to_string().contains("libhelper.so"), "{refusal}");
        chmod(&base.join("lib/libhelper.so"), 0o755);
        // Even sticky: others could put a library of that name there.
        chmod(&base.join("lib"), 0o1777);
        assert_eq!(inspect(&plugin).unwrap_err().code(), "writable");
        chmod(&base.join("lib"), 0o755);
        assert_eq!(inspect(&plugin).unwrap(), "c-x");
    }
}

#[test]
fn what_a_plugin_pulls_in_is_listed_with_the_verdict_on_each() {
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().canonicalize().unwrap();
    let plugin = build(&base, "$ORIGIN/../lib:relative");
    let list = || PluginFile::dependencies(&plugin, Trust::current()).unwrap();
    let known = list();
    let of = |name: &str| known.iter().find(|d| d.name == name).expect(name);
    assert!(matches!(&of("$ORIGIN/../lib").found, Found::Directory(_)));
    assert_eq!(of("$ORIGIN/../lib").refusal, None);
    let relative = of("relative").refusal.as_ref().expect("a refusal");
    assert_eq!(
        (relative.code(), &of("relative").found),
        ("run_path", &Found::Nowhere)
    );
    let helper = of("libhelper.so");
    assert_eq!(helper.found, Found::Library(base.join("lib/libhelper.so")));
    assert_eq!((&helper.needed_by, &helper.refusal), (&plugin, &None));
    assert!(matches!(&of("libc.so.6").found, Found::System(_)));

    // Shown with its fault, and the rest all the same; the loader refuses for the first one.
    chmod(&base.join("lib/libhelper.so"), 0o777);
    let known = list();
    let helper = known.iter().find(|d| d.name == "libhelper.so").unwrap();
    assert_eq!(helper.refusal.as_ref().map(Refusal::code), Some("writable"));
    assert!(known.iter().any(|d| d.name == "libc.so.6"));
    std::fs::remove_file(base.join("lib/libhelper.so")).unwrap();
    let gone = list();
    let gone = gone.iter().find(|d| d.name == "libhelper.so").unwrap();
    assert_eq!((&gone.found, &gone.refusal), (&Found::Nowhere, &None));
}

#[test]
fn what_a_private_library_needs_counts_as_well() {
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().canonicalize().unwrap();
    let plugin = build(&base, "$ORIGIN/../lib");
    let deep = base.join("deep");
    std::fs::create_dir(&deep).unwrap();
    cc(
        &[],
        "int deeper(void) { return 2; }",
        &deep.join("libdeeper.so"),
    );
    let search = format!("-L{}", deep.display());
    let run_path = format!("-Wl,-rpath,{}", deep.display());
    cc(
        &[&search, "-ldeeper", &run_path],
        "extern int deeper(void); int helper(void) { return deeper(); }",
        &base.join("lib/libhelper.so"),
    );
    inspect(&plugin).unwrap();
    chmod(&deep.join("libdeeper.so"), 0o666);
    assert!(
        inspect(&plugin)
            .unwrap_err()
            .to_string()
            .contains("libdeeper.so")
    );
}

#[test]
fn a_search_path_of_the_working_directory_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().canonicalize().unwrap();
    let plugin = build(&base, ".");
    let refusal = inspect(&plugin).unwrap_err();
    assert_eq!(refusal.code(), "run_path", "{refusal}");
}

#[test]
fn a_search_path_that_others_could_make_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().canonicalize().unwrap();
    let open = base.join("open");
    std::fs::create_dir(&open).unwrap();
    chmod(&open, 0o1777);
    let plugin = build(&base, &open.join("later").display().to_string());
    let refusal = inspect(&plugin).unwrap_err();
    assert_eq!(refusal.code(), "writable", "{refusal}");
}

/// Builds a plugin on a library, takes the library away, and loads the plugin.
fn load_without_its_library(manifest_says: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let base = scratch.path().canonicalize().unwrap();
    let lib = base.join("lib");
    for directory in [&lib, &base.join("plugins")] {
        std::fs::create_dir_all(directory).unwrap();
        chmod(directory, 0o755);
    }
    let library = lib.join("libhelper.so");
    cc(&[], "int helper(void) { return 1; }", &library);
    let plugin = base.join("plugins/x.so");
    let source = PLUGIN.replace("}]}\"", &format!("}}]{manifest_says}}}\""));
    cc(
        &[&format!("-L{}", lib.display()), "-lhelper"],
        &source,
        &plugin,
    );
    std::fs::remove_file(base.join("plugins/x.c")).unwrap();
    std::fs::remove_file(&library).unwrap();
    let info = PluginFile::inspect(&plugin, &Policy::default()).unwrap();
    let error = load(&info, &Policy::default()).unwrap_err();
    assert!(matches!(error, LoadError::Link { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_missing_library_is_named_with_the_package_that_brings_it() {
    let known = load_without_its_library(r#",\"libraries\":{\"libhelper.so\":\"helper1\"}"#);
    assert_eq!(
        known,
        "cannot load plugin c-x 1: libhelper.so, which it needs, is not installed; run `apt-get install \
         helper1`, or install your system's package of that library"
    );
    let unknown = load_without_its_library("");
    assert!(
        unknown.ends_with("is not installed; install the package that has libhelper.so"),
        "{unknown}"
    );
}

#[test]
fn what_a_manifest_wants_installed_is_a_name_and_no_command() {
    for bad in ["x; reboot", "-y", ""] {
        let scratch = tempfile::tempdir().unwrap();
        let plugin = scratch.path().join("x.so");
        let manifest = format!(r#"}}],\"libraries\":{{\"libx.so\":\"{bad}\"}}}}""#);
        let source = PLUGIN.replace("}]}\"", &manifest);
        let source = source.replace("return helper();", "return 1;");
        cc(&[], &source, &plugin);
        let refusal = inspect(&plugin).unwrap_err();
        assert!(
            refusal.to_string().contains("`libraries`"),
            "{bad:?}: {refusal}"
        );
    }
}
