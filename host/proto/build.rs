//! Compiles `proto/*.proto` without any installed compiler.

use std::path::PathBuf;
use std::{env, error::Error, fs};

use prost::Message as _;

const FILES: [&str; 14] = [
    "burnin",
    "ctl",
    "device",
    "drpc",
    "engine",
    "firmware",
    "host",
    "layers",
    "mgmt",
    "plugin",
    "preflight",
    "rpc",
    "shared",
    "srv",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = FILES.map(|name| format!("proto/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut paths = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                paths.push(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    let served = format!(
        "/// All methods that our files define, by path.\npub const SERVED: &[&str] = &{paths:?};\n"
    );
    fs::write(out.join("served.rs"), served)?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
