//! Hands on whether the library was built with SPDK (its build script tells through `links`).

fn main() {
    println!("cargo::rustc-check-cfg=cfg(spdk)");
    if std::env::var_os("DEP_DAOS_SPDK_SHIM_PRESENT").is_some() {
        println!("cargo::rustc-cfg=spdk");
        // A library missing from the link line must fail here, not at load.
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,defs");
    }
}
