//! Builds the shim and the bindings against SPDK's NVMe driver.
//!
//! SPDK is looked for under `SPDK_DIR` (a prefix), else with pkg-config (from 21.01 on it installs `.pc`
//! files), else in the cache folder that `tests/vm/spdk-build` fills. Without it, or without libclang to read
//! its headers, the crate is empty and a warning says what brings it; everything else builds as ever.

use std::env;
use std::panic;
use std::path::{Path, PathBuf};

/// Libraries of 20.07, which has no `.pc` files. Constructors in them register transports, buses and memory
/// pools, so they are linked whole.
const WHOLE: &[&str] = &[
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

/// What to compile and link with.
struct Spdk {
    include: Vec<PathBuf>,
    search: Vec<PathBuf>,
    /// Libraries by name, in link order.
    libraries: Vec<String>,
}

fn main() {
    for file in ["build.rs", "c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["SPDK_DIR", "DAOS_VM_CACHE", "XDG_CACHE_HOME"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rustc-check-cfg=cfg(spdk)");
    match find().and_then(|spdk| build(&spdk)) {
        Ok(()) => println!("cargo::rustc-cfg=spdk"),
        Err((missing, remedy)) => {
            println!("cargo::warning=NOT BUILT bdev-nvme-spdk: {missing}; {remedy}");
        }
    }
}

/// What is missing, and what brings it.
type Missing = (String, &'static str);

const BRING: &str =
    "tests/vm/install && tests/vm/spdk-build, or SPDK_DIR=<prefix of an installed SPDK>";

fn find() -> Result<Spdk, Missing> {
    if let Some(dir) = env::var_os("SPDK_DIR") {
        return prefix(Path::new(&dir));
    }
    packaged().map_or_else(|| prefix(&cache()), Ok)
}

/// An SPDK under a prefix. Looked for again at each build until it is there: a missing file counts as changed.
fn prefix(dir: &Path) -> Result<Spdk, Missing> {
    let header = dir.join("include/spdk/nvme.h");
    println!("cargo::rerun-if-changed={}", header.display());
    if !header.is_file() {
        return Err((format!("no SPDK in {}", dir.display()), BRING));
    }
    // SAFETY: a build script has one thread.
    unsafe { env::set_var("PKG_CONFIG_PATH", dir.join("lib/pkgconfig")) };
    if dir.join("lib/pkgconfig/spdk_nvme.pc").is_file()
        && let Some(spdk) = packaged()
    {
        return Ok(spdk);
    }
    Ok(Spdk {
        include: vec![dir.join("include")],
        search: vec![dir.join("lib")],
        libraries: WHOLE
            .iter()
            .chain(SYSTEM)
            .map(|name| (*name).to_owned())
            .collect(),
    })
}

/// The cache folder of tests/vm/paths.sh.
fn cache() -> PathBuf {
    let base = env::var_os("DAOS_VM_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))
                .unwrap_or_default()
                .join("daos-plugin-host")
        });
    base.join("spdk-20.07")
}

/// What pkg-config knows. DPDK comes with SPDK (`spdk_dpdklibs`) or is the system's (`libdpdk`).
fn packaged() -> Option<Spdk> {
    let probe = |name: &str| {
        pkg_config::Config::new()
            .statik(true)
            .cargo_metadata(false)
            .probe(name)
    };
    let mut parts = vec![probe("spdk_nvme").ok()?, probe("spdk_env_dpdk").ok()?];
    parts.push(probe("spdk_dpdklibs").or_else(|_| probe("libdpdk")).ok()?);
    parts.extend(probe("spdk_syslibs"));
    let mut spdk = Spdk {
        include: Vec::new(),
        search: Vec::new(),
        libraries: Vec::new(),
    };
    for part in parts {
        spdk.include.extend(part.include_paths);
        spdk.search.extend(part.link_paths);
        for name in part.libs {
            if !spdk.libraries.contains(&name) {
                spdk.libraries.push(name);
            }
        }
    }
    Some(spdk)
}

fn build(spdk: &Spdk) -> Result<(), Missing> {
    bindings(&spdk.include)?;
    let mut shim = cc::Build::new();
    // What came between two versions and is not told by their numbers alone is looked for in the header.
    for (word, define) in [
        // The caller says how large its structure is.
        ("opts_size", "DAOS_SPDK_ENV_OPTS_SIZE"),
        // In place of spdk_pci_device_get_socket_id, which went with 25.09.
        ("spdk_pci_device_get_numa_id", "DAOS_SPDK_NUMA_ID"),
    ] {
        let declares = |dir: &PathBuf| {
            std::fs::read_to_string(dir.join("spdk/env.h")).is_ok_and(|text| text.contains(word))
        };
        if spdk.include.iter().any(declares) {
            shim.define(define, None);
        }
    }
    shim.files([
        "c/admin.c",
        "c/eal.c",
        "c/firmware.c",
        "c/shim.c",
        "c/log.c",
        "c/reset.c",
        "c/sigbus.c",
    ])
    .includes(&spdk.include)
    .std("gnu11")
    .warnings(true)
    .extra_warnings(true)
    .flag("-Wno-unused-parameter") // of callbacks whose shape SPDK prescribes
    .compile("daos_spdk_shim");
    // For this crate's tests; the shared object has a build script of its own for this.
    println!("cargo::rustc-link-arg=-Wl,--wrap=rte_eal_init");
    for path in &spdk.search {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for name in &spdk.libraries {
        let archive = format!("lib{name}.a");
        let is_driver = name.starts_with("spdk_") || name.starts_with("rte_");
        if is_driver && spdk.search.iter().any(|path| path.join(&archive).is_file()) {
            println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
        } else {
            println!("cargo::rustc-link-lib={name}");
        }
    }
    Ok(())
}

fn bindings(include: &[PathBuf]) -> Result<(), Missing> {
    let mut builder = bindgen::Builder::default()
        .header("c/shim.h")
        .clang_args(include.iter().map(|path| format!("-I{}", path.display())))
        .clang_arg("-std=gnu11")
        .use_core()
        .derive_default(false)
        // Handles of the driver; what is inside differs between its versions and is the shim's business.
        .opaque_type("spdk_nvme_(ctrlr|ns|qpair|cpl)")
        .blocklist_item("daos_spdk_(log_)?output.*")
        .allowlist_type("daos_spdk_.*")
        .allowlist_var("SPDK_MALLOC_DMA|daos_spdk_.*|DAOS_SPDK_.*");
    for function in [
        "daos_spdk_.*",
        "spdk_nvme_ns_cmd_(read|write|readv|writev|comparev|flush|write_zeroes)",
        "spdk_nvme_ctrlr_(process_admin_completions|cmd_abort_ext|fail)",
        "spdk_nvme_ctrlr_(get_ns|is_active_ns|get_first_active_ns|get_next_active_ns|register_aer_callback)",
        "spdk_nvme_qpair_process_completions",
        "spdk_nvme_ns_get_num_sectors",
        "spdk_nvme_detach",
        "spdk_(malloc|free|mem_register|mem_unregister)",
    ] {
        builder = builder.allowlist_function(function);
    }
    // bindgen panics when it finds no libclang. A message of its own would only confuse.
    panic::set_hook(Box::new(|_| {}));
    let bindings = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()));
    drop(panic::take_hook());
    let bindings = bindings
        .map_err(|_| {
            (
                "libclang is missing".to_owned(),
                "apt-get install libclang-dev",
            )
        })?
        .map_err(|error| (format!("SPDK's headers cannot be read ({error})"), BRING))?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR can be written");
    Ok(())
}
