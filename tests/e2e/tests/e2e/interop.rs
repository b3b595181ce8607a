//! Another gRPC than ours: a client with Go's, which dmg is made with, does what dmg does (`tests/e2e/interop`).

use daos_e2e::{Bdev, Finished, Site, finish, not_run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Debian puts the sources of Go's packages.
const PACKAGES: &str = "/usr/share/gocode";

/// Builds the client, without the network; `None` without what it takes.
fn client() -> Option<PathBuf> {
    let grpc = Path::new(PACKAGES).join("src/google.golang.org/grpc");
    let mut version = Command::new("go");
    version.arg("version");
    let has_go = version.output().is_ok_and(|told| told.status.success());
    if !has_go || !grpc.is_dir() {
        return None;
    }
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = built.join("interop");
    let mut build = Command::new("go");
    build
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"))
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", PACKAGES)
        .env("GOCACHE", built.join("go-cache"))
        .args(["build", "-o"])
        .arg(&program)
        .arg(".");
    finish(build, Duration::from_secs(600)).expect(0);
    Some(program)
}

#[test]
fn a_client_with_another_grpc_works_as_dmg_does() {
    let Some(client) = client() else {
        return not_run(
            "a_client_with_another_grpc_works_as_dmg_does",
            "packages golang-go and golang-google-grpc-dev are missing",
        );
    };
    let site = Site::new();
    for engine in 0..2 {
        let name = |n: u32| site.path(&format!("bdev{engine}{n}"));
        site.add_engine(Bdev::Files(vec![name(0), name(1)]), 2);
    }
    let run = |stage: &str| -> Finished {
        let mut command = Command::new(&client);
        command.arg(site.address()).arg(stage);
        finish(command, Duration::from_secs(120)).expect(0)
    };
    let mut server = site.start();
    server.wait_phase("maintenance");
    let done = run("before");
    assert!(
        done.stdout.contains("ok /ctl.CtlSvc/StorageFormat"),
        "{done}"
    );
    server.wait_phase("ready");
    let done = run("after");
    assert!(
        done.stdout.contains("ok /mgmt.MgmtSvc/PoolDestroy"),
        "{done}"
    );
    server.stop();
}
