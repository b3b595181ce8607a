//! Looks for libpmem, which one comparison is made with.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(libpmem)");
    match pkg_config::Config::new()
        .atleast_version("1.10")
        .probe("libpmem")
    {
        Ok(_) => println!("cargo::rustc-cfg=libpmem"),
        Err(_) => {
            // Looked for again at each build until it is there, which a file that is missing brings about. Not the header's: a package's
            // files are older than this build, so it would not be noticed when it comes.
            println!("cargo::rerun-if-changed=libpmem-is-missing");
            println!(
                "cargo::warning=NOT BUILT the comparison of daos-bench scm with libpmem; apt-get install libpmem-dev pkg-config"
            );
        }
    }
}
