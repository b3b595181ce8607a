//! Bindings to the installed libfabric, and the shim around its inline functions.
//!
//! Without libfabric's headers, or without libclang to read them, the crate is empty and a warning
//! says what to install; everything else of the workspace builds as ever.

use std::env;
use std::panic;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=c/shim.c");
    println!("cargo::rerun-if-changed=c/shim.h");
    println!("cargo::rustc-check-cfg=cfg(libfabric)");
    match build() {
        Ok(()) => println!("cargo::rustc-cfg=libfabric"),
        Err(missing) => println!(
            "cargo::warning=NOT BUILT fabric-ofi: {missing}; apt-get install libfabric-dev libclang-dev pkg-config"
        ),
    }
}

/// Builds the shim and the bindings, or says what is missing.
fn build() -> Result<(), String> {
    // Looked for again at each build until it is there; a file that is missing counts as changed.
    println!("cargo::rerun-if-changed=/usr/include/rdma/fabric.h");
    let library = pkg_config::Config::new()
        .atleast_version("1.17")
        .cargo_metadata(false)
        .probe("libfabric")
        .map_err(|error| match error {
            pkg_config::Error::Command { .. } => "pkg-config is missing".to_owned(),
            _ => "libfabric-dev (1.17 or newer) is missing".to_owned(),
        })?;
    let include = library
        .include_paths
        .iter()
        .map(|path| format!("-I{}", path.display()));
    let builder = bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(include)
        .allowlist_function("shim_.*|fi_getinfo|fi_freeinfo|fi_dupinfo|fi_getparams|fi_freeparams")
        .allowlist_function("fi_strerror|fi_version")
        .allowlist_type("fi_context2|fi_cq_tagged_entry|fi_cq_err_entry|fi_info")
        .allowlist_var("FI_.*|SHIM_.*")
        .derive_default(true);
    // bindgen panics when it finds no libclang. A message of its own would only confuse.
    panic::set_hook(Box::new(|_| {}));
    let bindings = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()));
    drop(panic::take_hook());
    let bindings = bindings
        .map_err(|_| "libclang-dev is missing".to_owned())?
        .map_err(|error| format!("libfabric's headers cannot be read ({error})"))?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings
        .write_to_file(out.join("ofi.rs"))
        .expect("OUT_DIR can be written");
    cc::Build::new()
        .file("c/shim.c")
        .includes(&library.include_paths)
        .warnings(true)
        .extra_warnings(true)
        .flag("-Wno-unused-parameter") // of libfabric's own headers
        .compile("ofi_shim");
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    println!("cargo::rustc-link-lib=dylib=fabric");
    Ok(())
}
