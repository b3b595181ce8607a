//! Lets the plugin see what DPDK is started with (`c/eal.c` of `bdev-nvme-spdk`): link arguments are not handed on by
//! libraries.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=-Wl,--wrap=rte_eal_init");
}
