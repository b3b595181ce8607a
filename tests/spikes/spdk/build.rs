//! Builds the shim and the bindings against an SPDK prefix (SPDK_DIR, see tests/vm/spdk-build).
//!
//! Without SPDK the crate compiles to nothing and says how to get it.

use std::env;
use std::path::{Path, PathBuf};

/// Static libraries in link order. Constructors in them register transports, buses and memory
/// pools, so they are linked whole.
const SPDK: &[&str] = &[
    "spdk_nvme",
    "spdk_env_dpdk",
    "spdk_util",
    "spdk_log",
    "spdk_sock",
    "spdk_sock_posix",
    "spdk_thread",
    "spdk_trace",
    "spdk_json",
    "spdk_jsonrpc",
    "spdk_rpc",
];
const DPDK: &[&str] = &[
    "rte_eal",
    "rte_mempool",
    "rte_ring",
    "rte_mbuf",
    "rte_mempool_ring",
    "rte_pci",
    "rte_bus_pci",
    "rte_kvargs",
    "rte_telemetry",
];
const SYSTEM: &[&str] = &["numa", "uuid", "crypto", "dl", "pthread", "rt", "m"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(spdk)");
    println!("cargo::rerun-if-env-changed=SPDK_DIR");
    println!("cargo::rerun-if-changed=shim");
    let Some(prefix) = prefix() else { return };
    println!(
        "cargo::rerun-if-changed={}",
        prefix.join(".stamp").display()
    );
    if !prefix.join("include/spdk/nvme.h").is_file() {
        println!(
            "cargo::warning=SPDK not found in {}: this crate is empty; run tests/vm/spdk-build, or set SPDK_DIR",
            prefix.display()
        );
        return;
    }
    println!("cargo::rustc-cfg=spdk");
    println!("cargo::metadata=present=1");
    let include = prefix.join("include");
    cc::Build::new()
        .file("shim/shim.c")
        .include(&include)
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true)
        .flag("-Wno-unused-parameter")
        .compile("daos_spdk_shim");
    link(&prefix.join("lib"));
    bindings(&include);
}

/// SPDK_DIR, or the cache folder that tests/vm/spdk-build fills.
fn prefix() -> Option<PathBuf> {
    if let Some(dir) = env::var_os("SPDK_DIR") {
        return Some(dir.into());
    }
    let cache = env::var_os("DAOS_VM_CACHE")
        .map(PathBuf::from)
        .or_else(|| {
            let base = env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
            Some(base.join("daos-plugin-host"))
        })?;
    Some(cache.join("spdk-20.07"))
}

fn link(lib: &Path) {
    println!("cargo::rustc-link-search=native={}", lib.display());
    for name in SPDK.iter().chain(DPDK) {
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
    }
    for name in SYSTEM {
        println!("cargo::rustc-link-lib={name}");
    }
}

fn bindings(include: &Path) {
    let out =
        PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    let functions = [
        "daos_spdk_.*",
        "spdk_nvme_ns_cmd_(readv|writev|comparev|flush|write_zeroes)",
        "spdk_nvme_ctrlr_(reset|free_io_qpair|process_admin_completions|cmd_abort_ext|fail)",
        "spdk_nvme_ctrlr_(get_ns|is_active_ns|get_first_active_ns|register_aer_callback)",
        "spdk_nvme_qpair_process_completions",
        "spdk_nvme_ns_get_num_sectors",
        "spdk_nvme_detach",
        "spdk_(malloc|free|mem_register|mem_unregister)",
    ];
    let mut builder = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_arg(format!("-I{}", include.display()))
        .clang_arg("-std=gnu11")
        .use_core()
        .layout_tests(true)
        .derive_default(false)
        // Handles of the driver; what is inside differs between its versions and is the shim's business.
        .opaque_type("spdk_nvme_(ctrlr|ns|qpair|cpl)")
        .allowlist_type("daos_spdk_.*")
        .allowlist_var("SPDK_MALLOC_DMA")
        .allowlist_var("daos_spdk_.*")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for function in functions {
        builder = builder.allowlist_function(function);
    }
    builder
        .generate()
        .expect("bindgen reads the headers of SPDK")
        .write_to_file(out)
        .expect("OUT_DIR is writable");
}
