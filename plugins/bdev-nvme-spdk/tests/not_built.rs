//! Says so where there is no SPDK to build the plugin with.
#![cfg(not(spdk))]

#[test]
fn not_built() {
    println!("NOT RUN unit tests and VM scenarios of bdev-nvme-spdk: it was built without SPDK");
}
