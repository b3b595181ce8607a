//! What a package installs: the unit starts the server, and systemd learns what it does.

use daos_e2e::{Bdev, Finished, Server, Site, eventually, finish, not_run};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging/systemd")
        .join(file)
}

fn unit() -> String {
    fs::read_to_string(packaging("daos_server.service")).expect("the unit")
}

/// Arguments of the unit's command, with the config of a site.
fn arguments() -> Vec<String> {
    let unit = unit();
    let line = unit.lines().find_map(|l| l.strip_prefix("ExecStart="));
    let mut words = line.expect("an ExecStart line").split(' ');
    assert_eq!(words.next(), Some("/usr/bin/daos_server"));
    words
        .map(|w| w.replace("/etc/daos/daos_server.yml", "daos_server.yml"))
        .collect()
}

/// Runs a tool of systemd's, if there is one.
fn systemd(test: &str, tool: &str, args: &[&str]) -> Option<Finished> {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join(tool).exists());
    if !there {
        not_run(test, &format!("there is no {tool}"));
        return None;
    }
    let mut command = Command::new(tool);
    command.args(args);
    Some(finish(command, Duration::from_secs(60)))
}

#[test]
fn systemd_understands_the_unit() {
    let site = Site::new();
    let file = site.path("daos_server.service");
    let program = site.program("daos_server").display().to_string();
    let text = unit().replace("/usr/bin/daos_server", &program);
    fs::write(&file, text).expect("our directory");
    let file = file.display().to_string();
    let args = ["verify", "--man=no", "--recursive-errors=no", &file];
    if let Some(done) = systemd("systemd_understands_the_unit", "systemd-analyze", &args) {
        assert_eq!(done.clone().expect(0).text(), "", "{done}");
    }
}

#[test]
fn the_runtime_directory_is_made_at_boot() {
    let site = Site::new();
    let root = site.make_dir("root");
    fs::create_dir(root.join("etc")).expect("our directory");
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    fs::write(
        root.join("etc/passwd"),
        format!("daos:x:{uid}:{gid}::/:/bin/false\n"),
    )
    .expect("ours");
    fs::write(root.join("etc/group"), format!("daos:x:{gid}:\n")).expect("ours");
    let (root_arg, file) = (
        format!("--root={}", root.display()),
        packaging("daosfiles.conf").display().to_string(),
    );
    let args = [&root_arg, "--create", &file];
    if let Some(done) = systemd(
        "the_runtime_directory_is_made_at_boot",
        "systemd-tmpfiles",
        &args,
    ) {
        done.expect(0);
        let made = fs::metadata(root.join("run/daos_server")).expect("the directory");
        assert!(made.is_dir());
        assert_eq!((made.mode() & 0o7777, made.uid()), (0o755, uid.as_raw()));
    }
}

/// What a server tells the service manager.
struct Manager {
    socket: UnixDatagram,
    told: String,
}

impl Manager {
    fn of(site: &mut Site) -> Self {
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        site.set_env("NOTIFY_SOCKET", &path.display().to_string());
        Self {
            socket,
            told: String::new(),
        }
    }

    /// Waits until it was told something; returns all that it was told.
    #[track_caller]
    fn wait(&mut self, what: &str) -> &str {
        eventually(what, || {
            let mut buffer = [0; 4096];
            while let Ok(n) = self.socket.recv(&mut buffer) {
                self.told += &String::from_utf8_lossy(&buffer[..n]);
                self.told.push('\n');
            }
            self.told.contains(what).then_some(())
        });
        &self.told
    }
}

fn start<'a>(site: &'a Site) -> Server<'a> {
    site.write_config();
    let arguments = arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    site.start_with(&arguments)
}

#[test]
fn the_units_command_tells_systemd_what_it_does() {
    let mut site = Site::with_file();
    let mut manager = Manager::of(&mut site);
    let mut server = start(&site);
    // Waiting for an administrator is a service that has started.
    let told = manager.wait("READY=1");
    assert!(told.contains("STATUS=maintenance: "), "{told}");
    assert!(told.contains("storage format"), "{told}");
    server.make_ready();
    manager.wait("STATUS=ready: ");
    server.terminate();
    manager.wait("STOPPING=1");
    assert!(server.wait().success());
}

#[test]
fn a_node_whose_engine_cannot_start_has_started_and_says_why() {
    let mut site = Site::new();
    let bdev = Bdev::File(site.make_dir("bdev0"));
    site.add_engine(bdev, 1);
    let mut manager = Manager::of(&mut site);
    let mut server = start(&site);
    let told = manager.wait("READY=1");
    assert!(told.contains("bdev0"), "{told}");
    let state = server.wait_phase("maintenance");
    let device = site.path("bdev0").display().to_string();
    assert!(
        state["reason"].as_str().unwrap_or("").contains(&device),
        "{state:#}"
    );
    assert_ne!(state["hint"], "", "{state:#}");
    server.stop();
}
