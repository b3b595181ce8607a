//! Bindings to the installed libfabric, and the shim around its inline functions.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=c/shim.c");
    println!("cargo::rerun-if-changed=c/shim.h");
    let library = pkg_config::Config::new()
        .atleast_version("1.17")
        .probe("libfabric")
        .unwrap_or_else(|error| {
            panic!("libfabric 1.17 or newer is needed (Debian: apt install libfabric-dev): {error}")
        });
    cc::Build::new()
        .file("c/shim.c")
        .includes(&library.include_paths)
        .warnings(true)
        .extra_warnings(true)
        .flag("-Wno-unused-parameter") // of libfabric's own headers
        .compile("ofi_shim");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(
            library
                .include_paths
                .iter()
                .map(|path| format!("-I{}", path.display())),
        )
        .allowlist_function("shim_.*|fi_getinfo|fi_freeinfo|fi_dupinfo|fi_strerror|fi_version")
        .allowlist_type("fi_context2|fi_cq_tagged_entry|fi_cq_err_entry|fi_info")
        .allowlist_var("FI_.*|SHIM_.*")
        .derive_default(true)
        .generate()
        .expect("libfabric's headers can be read")
        .write_to_file(out.join("ofi.rs"))
        .expect("OUT_DIR can be written");
}
