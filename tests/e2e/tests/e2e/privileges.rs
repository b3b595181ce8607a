//! Who may do what: the table of docs/security.md, run. Takes root, which can become everybody else.

use crate::data::bench;
use daos_e2e::{Bdev, Finished, LoopDevice, PrivateDir, Server, Site, User, may_mount, not_run};
use nix::unistd::{Gid, Uid, chown};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const NOBODY: u32 = 65_534;

/// How the server is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// By root.
    Root,
    /// By root, with `user_name: nobody`.
    RootForUser,
    /// By an ordinary user.
    Plain,
    /// By an ordinary user, with the right to mount for the helpers.
    Mounter,
    /// By an ordinary user, with `daos_server_privileged` installed.
    Installed,
}

const ALL: [Started; 5] = [
    Started::Root,
    Started::RootForUser,
    Started::Plain,
    Started::Mounter,
    Started::Installed,
];

impl Started {
    fn user(self) -> User {
        match self {
            Self::Root | Self::RootForUser | Self::Installed => User::Caller,
            Self::Plain => User::Unprivileged,
            Self::Mounter => User::Mounter,
        }
    }

    /// Users of server and engines.
    fn uids(self) -> (u32, u32) {
        match self {
            Self::Root => (0, 0),
            Self::RootForUser => (0, NOBODY),
            Self::Plain | Self::Mounter | Self::Installed => (NOBODY, NOBODY),
        }
    }

    /// Options that come before the command: where the configuration is.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Installed => &[],
            _ => &["-o", "daos_server.yml"],
        }
    }
}

/// What is asked for. In each row of the table something else takes rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    /// A tmpfs that has to be mounted, and a file.
    Mounted,
    /// A directory of a tmpfs that is there, and a file.
    InTmpfs,
    /// The same, and a block device that is root's.
    RootsDevice,
    /// The same, and a block device that was given to the user.
    GivenDevice,
}

/// The table: what works for whom, in the order of [`ALL`].
const TABLE: [(Storage, [bool; 5]); 4] = [
    (Storage::Mounted, [true, true, false, true, true]),
    (Storage::InTmpfs, [true, true, true, true, true]),
    (Storage::RootsDevice, [true, true, false, false, false]),
    (Storage::GivenDevice, [true, true, true, true, true]),
];

/// A node for a cell of the table. What it stands on lives as long as it.
struct Cell {
    site: Site,
    _memory: Option<PrivateDir>,
    _device: Option<LoopDevice>,
    sockets: PathBuf,
}

/// Why this machine cannot have one, else.
fn cell(started: Started, storage: Storage) -> Result<Cell, String> {
    let mut site = Site::of(started.user());
    let owner = (started.uids().0 != 0).then_some((NOBODY, NOBODY));
    let device = match storage {
        Storage::Mounted | Storage::InTmpfs => None,
        Storage::RootsDevice | Storage::GivenDevice => {
            let file = site.path("disk");
            let attached = LoopDevice::attach(&file, 2 << 30);
            Some(attached.map_err(|e| format!("there are no loop devices: {e}"))?)
        }
    };
    let bdev = match &device {
        None => Bdev::File(site.path("bdev0")),
        Some(device) => {
            give(device.path(), storage == Storage::GivenDevice);
            Bdev::Kdev(device.path().to_owned())
        }
    };
    site.add_engine(bdev, 1);
    let memory = match storage {
        Storage::Mounted => None,
        _ => Some(PrivateDir::new(Path::new("/dev/shm"), owner)),
    };
    let scm = match &memory {
        Some(memory) => memory.path().join("scm"),
        None => site.path("scm"),
    };
    site.change_engine(0, |engine| engine.scm_mount = scm);
    if started == Started::RootForUser {
        site.copy_programs();
        site.add_config("user_name: nobody\n");
    }
    if started == Started::Installed {
        site.install()?;
        site.install_config();
    } else {
        site.write_config();
    }
    // One that the server makes is its user's, where it can make one.
    let sockets = match started {
        Started::Installed => site.path("sockets"),
        _ => site.path("own-sockets"),
    };
    Ok(Cell {
        site,
        _memory: memory,
        _device: device,
        sockets,
    })
}

/// A node of root's that nobody else may open, or one of the user's.
fn give(device: &Path, to_user: bool) {
    let (uid, mode) = if to_user { (NOBODY, 0o600) } else { (0, 0o600) };
    chown(device, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).expect("root may");
    fs::set_permissions(device, fs::Permissions::from_mode(mode)).expect("root may");
}

fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

/// What the check says beforehand: it must be right.
fn predicted(site: &Site, options: &[&str]) -> bool {
    let done: Finished = site.run(
        "daos_server",
        &[options, &["-i", "--json", "preflight"]].concat(),
    );
    let json = done.json();
    let findings = json["response"]["findings"].as_array().expect("findings");
    let mut rights = findings.iter().filter(|f| f["check"] == "privileges");
    rights.all(|finding| finding["state"] != "fail")
}

#[track_caller]
fn assert_works(started: Started, server: &mut Server<'_>, site: &Site) {
    server.make_ready();
    let engine = server.engine_pid(0);
    let uid = |pid: u32| {
        fs::metadata(format!("/proc/{pid}"))
            .expect("a running process")
            .uid()
    };
    let (servers, engines) = started.uids();
    assert_eq!(uid(engine), engines, "{started:?}");
    assert_eq!(
        status(server.pid(), "Uid:").split('\t').nth(1),
        Some(servers.to_string().as_str())
    );
    if engines != 0 {
        assert_eq!(
            status(engine, "CapEff:"),
            "0".repeat(16),
            "{started:?}: an engine has rights"
        );
    }
    bench(site);
    // Nothing is different the second time.
    site.shell(&["system", "stop"]).expect(0);
    site.shell(&["system", "start"]).expect(0);
    bench(site);
}

#[test]
fn each_cell_of_the_table_is_as_it_says() {
    let name = "each_cell_of_the_table_is_as_it_says";
    if !Uid::effective().is_root() || !may_mount() {
        return not_run(name, "becoming others takes root, and mounting its rights");
    }
    for (storage, row) in TABLE {
        for (started, works) in ALL.into_iter().zip(row) {
            let cell = match cell(started, storage) {
                Ok(cell) => cell,
                Err(why) => {
                    not_run(&format!("{name}: {storage:?} {started:?}"), &why);
                    continue;
                }
            };
            println!("{storage:?} {started:?}: {works}");
            let site = &cell.site;
            assert_eq!(
                predicted(site, started.options()),
                works,
                "preflight of {storage:?} for {started:?}"
            );
            let sockets = cell.sockets.display().to_string();
            let words = ["start", "-i", "-d", &sockets];
            let mut server = site.start_with(&[started.options(), &words].concat());
            if works {
                assert_works(started, &mut server, site);
            } else {
                server.wait_phase("maintenance");
                let refused = server.format(&[]).expect(1);
                assert!(
                    ["root", "ermission", "not permitted"]
                        .iter()
                        .any(|word| refused.stderr.contains(word)),
                    "{storage:?} for {started:?} does not say what is missing: {refused}"
                );
                let state = server.wait_phase("maintenance");
                assert_eq!(state["engines"][0]["pid"], 0, "{state:#}");
            }
            server.stop();
        }
    }
}

#[test]
fn only_root_runs_engines_as_somebody_else() {
    let name = "only_root_runs_engines_as_somebody_else";
    if !Uid::effective().is_root() {
        return not_run(name, "becoming others takes root");
    }
    for user in [User::Unprivileged, User::Mounter] {
        if user == User::Mounter && !may_mount() {
            not_run(name, "the right to mount cannot be given");
            continue;
        }
        let mut site = Site::of(user);
        let bdev = Bdev::File(site.path("bdev0"));
        site.add_engine(bdev, 1);
        site.add_config("user_name: root\n");
        site.write_config();
        assert!(!predicted(&site, Started::Plain.options()));
        let refused = site
            .run("daos_server", &["-o", "daos_server.yml", "start", "-i"])
            .expect(1);
        assert!(
            refused.stderr.contains("only root can run engines as root"),
            "{refused}"
        );
    }
}
