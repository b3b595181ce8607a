//! Another gRPC than ours: a client with Go's, which dmg is made with, does what dmg does (`tests/e2e/interop`).

use daos_e2e::{Bdev, Finished, PrivateDir, Site, finish, not_run};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where Debian puts the sources of Go's packages.
const PACKAGES: &str = "/usr/share/gocode";

const PROGRAM: &str = "interop";

/// Builds the client into a directory, without the network and whatever Go is told by its user; `None` without what it takes.
fn client() -> Option<PrivateDir> {
    let grpc = Path::new(PACKAGES).join("src/google.golang.org/grpc");
    let mut version = Command::new("go");
    version.env("GOTOOLCHAIN", "local").arg("version");
    let has_go = version.output().is_ok_and(|told| told.status.success());
    if !has_go || !grpc.is_dir() {
        return None;
    }
    // What Go has built for one run is used by the next; Go sees to it that two at once do not collide there.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
    let built = PrivateDir::new(&std::env::temp_dir(), None);
    let mut build = Command::new("go");
    build
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"))
        .env("GOENV", "off")
        .env_remove("GOFLAGS")
        .env("GO111MODULE", "off")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        .env("GOPATH", PACKAGES)
        .env("GOCACHE", cache)
        .args(["build", "-o"])
        .arg(built.path().join(PROGRAM))
        .arg(".");
    finish(build, Duration::from_secs(600)).expect(0);
    Some(built)
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
        let mut command = Command::new(client.path().join(PROGRAM));
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
