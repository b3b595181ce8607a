//! How the program does not start: with a plugin that misbehaves in one of the calls that a start makes. It ends, its last line
//! names plugin and call, and its board has the same; without the misbehaviour the same storage serves.

use super::common::{Shape, Storage};
use daos_media::device_config::{self, DeviceConfig};
use daos_media::superblock::{self, Superblock};
use daos_plugin_api::host::{Board, BoardReading};
use fixture_files::{HOSTILE, HOSTILE_FACES, install, put};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What the hostile plugin is to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    Bdev,
    Scm,
    Fabric,
}

/// How a start went.
#[derive(Debug)]
struct Start {
    status: Option<ExitStatus>,
    printed: String,
    board: BoardReading,
}

/// Storage and a hostile plugin.
struct Bed {
    storage: Storage,
    face: Face,
    library: PathBuf,
}

impl Bed {
    fn new(face: Face) -> Self {
        let storage = Storage::format(Shape {
            bdev_mib: 32,
            targets: 1,
            helpers: 0,
            ..Shape::default()
        });
        let plugin = match face {
            Face::Bdev => HOSTILE,
            Face::Scm | Face::Fabric => HOSTILE_FACES,
        };
        if face == Face::Bdev {
            take_over_device(&storage);
        }
        let library = install(plugin, storage.dir(), "hostile.so");
        Self {
            storage,
            face,
            library,
        }
    }

    fn command(&self, function: &str, behaviour: &str) -> Command {
        let mut arguments = self.storage.arguments();
        let on = json!({ function: behaviour });
        let (flag, settings) = match self.face {
            Face::Bdev => {
                let settings =
                    json!({"fixture-hostile": {"on": on, "backing": self.storage.files[0]}});
                ("--bdev-plugin", settings)
            }
            Face::Scm => {
                let size = json!({"scm_size_mib": self.storage.shape.scm_mib}).to_string();
                arguments
                    .extend(["--scm-class", "hostile", "--scm-config", &size].map(str::to_owned));
                ("--scm-plugin", json!({"fixture-hostile-faces": {"on": on}}))
            }
            Face::Fabric => {
                let place = arguments.iter().position(|word| word == "--provider");
                arguments[place.expect("a provider") + 1] = "hostile".to_owned();
                (
                    "--fabric-plugin",
                    json!({"fixture-hostile-faces": {"on": on}}),
                )
            }
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_daos_io_server"));
        command
            .args(arguments)
            .arg(flag)
            .arg(&self.library)
            .args(["--plugin-settings", &settings.to_string(), "--no-server"])
            .env("D_LOG_FILE", self.storage.dir().join("engine.log"))
            .env("RUST_BACKTRACE", "0")
            .env("D_SELF_TEST", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts an engine; one that does not end within the time is told to by SIGABRT, as the daemon does.
    fn start(&self, function: &str, behaviour: &str, within: Duration) -> Start {
        // SAFETY: a name that ends with zero; the descriptor is inherited, and nobody else's.
        let mut board = unsafe { File::from_raw_fd(libc::memfd_create(c"board".as_ptr(), 0)) };
        board.set_len(Board::BYTES as u64).expect("memory");
        let said = self.storage.dir().join("said");
        let mut child = self
            .command(function, behaviour)
            .args(["--board", &board.as_raw_fd().to_string()])
            .stdout(Stdio::null())
            .stderr(File::create(&said).expect("a file"))
            .spawn()
            .expect("the engine runs");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child") {
                break Some(status);
            }
            if begun.elapsed() > within {
                let pid = Pid::from_raw(child.id() as i32);
                kill(pid, Signal::SIGABRT).expect("it runs");
                child.wait().expect("it ends");
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut bytes = Vec::new();
        board.rewind().expect("memory");
        board.read_to_end(&mut bytes).expect("memory");
        Start {
            status,
            printed: std::fs::read_to_string(&said).expect("our file"),
            board: BoardReading::of(&bytes),
        }
    }
}

/// Makes the formatted file the device of the hostile plugin.
fn take_over_device(storage: &Storage) {
    let path = storage.mount.join(device_config::FILE_NAME);
    let mut config = DeviceConfig::read(&path).expect("readable");
    let device = &mut config.devices[0];
    device.class = "hostile".to_owned();
    device.plugin = "fixture-hostile".to_owned();
    device.address = "hostile:0".to_owned();
    config
        .write(&path, &device_config::Options::default())
        .expect("written");
    let path = storage.mount.join(superblock::FILE_NAME);
    let superblock = Superblock::read(&path).expect("readable");
    let mut superblock = superblock.expect("there is one");
    superblock.devices[0].class = "hostile".to_owned();
    superblock.devices[0].address = "hostile:0".to_owned();
    superblock.write(&path).expect("written");
}

/// Long enough for a start on a busy machine.
const END: Duration = Duration::from_secs(60);
/// Long enough to get into the call.
const HANG: Duration = Duration::from_secs(2);

/// Each behaviour in each function, with the name of the call.
fn does_not_start(face: Face, calls: &[(&str, &str)]) {
    let bed = Bed::new(face);
    let plugin = match face {
        Face::Bdev => "plugin fixture-hostile 0.6.6",
        Face::Scm | Face::Fabric => "plugin fixture-hostile-faces 0.6.6",
    };
    for (function, call) in calls {
        let inside = format!("inside {plugin}, call {call}");
        for (behaviour, words) in [
            ("panic", [plugin, *call]),
            ("abort", ["SIGABRT inside", &inside]),
            ("segfault", ["SIGSEGV inside", &inside]),
            ("hang", ["SIGABRT inside", &inside]),
        ] {
            let within = if behaviour == "hang" { HANG } else { END };
            let start = bed.start(function, behaviour, within);
            let about = format!("{function}: {behaviour}: {start:#?}");
            match start.status {
                Some(status) => assert!(behaviour != "hang" && !status.success(), "{about}"),
                None => assert_eq!(behaviour, "hang", "{about}"),
            }
            let last = start.printed.lines().last().unwrap_or_default();
            let board = start.board.words.unwrap_or_default();
            for word in words {
                assert!(last.contains(word), "{word:?} is not printed: {about}");
                assert!(
                    board.contains(word),
                    "{word:?} is not on the board: {about}"
                );
            }
        }
    }
    let start = bed.start("nothing", "", HANG);
    assert_eq!(start.status, None, "it serves: {start:#?}");
    let names = |call: &daos_plugin_api::host::ThreadCall| call.thread == "target-0";
    assert!(start.board.calls.iter().any(names), "{start:#?}");
}

#[test]
fn a_block_device_that_misbehaves_in_a_call_of_the_start() {
    does_not_start(
        Face::Bdev,
        &[
            ("create", "create"),
            ("open", "open"),
            ("geometry", "geometry"),
            ("open_queue", "open_queue"),
        ],
    );
}

#[test]
fn memory_that_misbehaves_in_a_call_of_the_start() {
    does_not_start(Face::Scm, &[("create", "create"), ("scm_open", "open")]);
}

#[test]
fn a_fabric_that_misbehaves_in_a_call_of_the_start() {
    does_not_start(
        Face::Fabric,
        &[("create", "create"), ("fabric_open", "open")],
    );
}

/// The engine is a client of its own where nobody else is; the daemon starts it again.
#[test]
fn a_fabric_that_completes_nothing_ends_the_engine() {
    let bed = Bed::new(Face::Fabric);
    let start = bed.start("poll", "mute", END);
    let code = start.status.and_then(|status| status.code());
    assert_eq!(
        code,
        Some(i32::from(daos_engine::error::exit::TARGET)),
        "{start:#?}"
    );
    let words = "the fabric does nothing: plugin fixture-hostile-faces 0.6.6 has let neither";
    let board = start.board.words.unwrap_or_default();
    assert!(
        board.starts_with(words) && start.printed.contains(words),
        "{board}"
    );
}

/// Before any function of it is called; with whatever is open then.
#[test]
fn a_library_that_misbehaves_while_it_is_mapped() {
    let bed = Bed::new(Face::Bdev);
    let inside = "inside plugin fixture-hostile 0.6.6, call load";
    for (behaviour, words) in [
        ("panic", "SIGABRT inside"),
        ("exit:0", "exit inside"),
        ("segfault", "SIGSEGV inside"),
        // SIGSEGV, or SIGABRT after a word of the standard library.
        ("overflow", inside),
        ("close-fds", "close of the engine's own descriptor 0 inside"),
        // Not even a signal handler runs.
        ("exit-now:0", ""),
    ] {
        put(bed.storage.dir(), "hostile.so.onload", behaviour.as_bytes());
        let start = bed.start("nothing", "", END);
        let about = format!("{behaviour}: {start:#?}");
        assert!(start.status.is_some(), "{about}");
        if words.is_empty() {
            let call = &start.board.calls[0];
            assert!(start.board.words.is_none() && call.lasts, "{about}");
            assert_eq!(
                (call.plugin.as_str(), call.call),
                ("fixture-hostile 0.6.6", "load"),
                "{about}"
            );
            continue;
        }
        let board = start.board.words.clone().unwrap_or_default();
        assert!(board.contains(words) && board.contains(inside), "{about}");
        assert!(start.printed.contains(words), "{about}");
    }
    put(bed.storage.dir(), "hostile.so.onload", b"leak-fds:100");
    let start = bed.start("nothing", "", HANG);
    assert_eq!(start.status, None, "it serves: {start:#?}");
}
