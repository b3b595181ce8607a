//! Says so where there is no libfabric to build the plugin with.
#![cfg(not(libfabric))]

#[test]
fn not_built() {
    println!("NOT RUN conformance, providers: fabric-ofi was built without libfabric-dev");
}
