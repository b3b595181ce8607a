//! Looks for libpmem, which one comparison is made with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(libpmem)");
    // Looked for again at each build until it is there; a file that is missing counts as changed.
    println!("cargo::rerun-if-changed=/usr/include/libpmem.h");
    match pkg_config::Config::new()
        .atleast_version("1.10")
        .probe("libpmem")
    {
        Ok(_) => println!("cargo::rustc-cfg=libpmem"),
        Err(_) => println!(
            "cargo::warning=NOT BUILT the comparison of daos-bench scm with libpmem; apt-get install libpmem-dev pkg-config"
        ),
    }
}
