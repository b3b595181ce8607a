//! What an ordinary user's daemon gets from `daos_server_privileged`, and what it does not get by driving it directly.
//!
//! Needs root: a file with the setuid bit, and a configuration in `/etc`, which stands in a mount namespace of its own.

use daos_helper::{CallOptions, HelperError, HelperPool, MountFile, Operation, PoolOptions};
use daos_loader::{PluginFile, PluginInfo, Policy};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassRequest, DeviceSpec, FormatRequest};
use fixture_files::{HOSTILE_FACES, RAW, chmod, copy_etc, install};
use serde_json::json;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The user of the daemon.
const USER: u32 = 65534;
/// Where the child of a test finds its site.
const SITE: &str = "PRIVILEGED_TEST_SITE";

/// An installation: program, plugins, configuration.
struct Site {
    scratch: tempfile::TempDir,
}

impl Site {
    /// `None` where it cannot be had; says why.
    fn new(test: &str) -> Option<Self> {
        if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
            println!("NOT RUN {test}: needs root to install a program with the setuid bit");
            return None;
        }
        let scratch = tempfile::tempdir().expect("a directory");
        let site = Self { scratch };
        if nix::sys::statvfs::statvfs(site.dir())
            .is_ok_and(|s| s.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID))
        {
            println!("NOT RUN {test}: the temporary directory is mounted nosuid");
            return None;
        }
        chmod(site.dir(), 0o755);
        for name in ["bin", "plugins", "theirs"] {
            std::fs::create_dir(site.path(name)).expect("our directory");
            chmod(&site.path(name), 0o755);
        }
        nix::unistd::chown(&site.path("theirs"), Some(USER.into()), Some(USER.into()))
            .expect("root may");
        copy(
            Path::new(env!("CARGO_BIN_EXE_daos_server_privileged")),
            &site.program(),
        );
        chmod(&site.program(), 0o4755);
        // The user may not be able to reach where this program was built.
        copy(
            &std::env::current_exe().expect("a path"),
            &site.path("bin/test"),
        );
        chmod(&site.path("bin/test"), 0o755);
        install(HOSTILE_FACES, &site.path("plugins"), "faces.so");
        copy_etc(&site.path("etc"));
        site.configure(&site.path("mnt"), "");
        Some(site)
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn program(&self) -> PathBuf {
        self.path("bin/daos_server_privileged")
    }

    fn configure(&self, mount: &Path, top: &str) {
        let text = format!(
            "name: daos_server\n{top}plugins_dir: '{}'\nservers:\n- targets: 1\n  scm_class: hostile\n  scm_mount: '{}'\n  \
             scm_size_mib: 16\n",
            self.path("plugins").display(),
            mount.display()
        );
        let file = self.path("etc/daos/daos_server.yml");
        std::fs::write(&file, text).expect("our file");
        chmod(&file, 0o644);
    }

    /// Runs something as the user, where `/etc` is the site's.
    fn as_user(&self, words: &[&str]) -> Output {
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(
                "mount --bind \"$1/etc\" /etc && shift && \
                 exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$@\"",
            )
            .arg("sh")
            .arg(self.dir())
            .args(words)
            .env(SITE, self.dir())
            .env("LD_PRELOAD", self.path("theirs/evil.so"))
            .stdin(Stdio::null())
            .output()
            .expect("unshare runs")
    }

    /// Runs the program by hand, as the user; it must refuse with these words.
    #[track_caller]
    fn is_refused(&self, plugin: &str, words: &[&str]) {
        let program = self.program().display().to_string();
        let output = self.as_user(&[&program, plugin, "--parent", "1"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is missing in {text}");
        }
    }

    /// Runs one of the tests below as the user.
    #[track_caller]
    fn run_child(&self, test: &str) {
        let program = self.path("bin/test").display().to_string();
        let output = self.as_user(&[&program, "--exact", test, "--nocapture"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{errors}");
        assert!(text.contains("1 passed"), "{text}\n{errors}");
    }
}

/// A copy that belongs to root, whoever owns the original.
fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    nix::unistd::chown(to, Some(0.into()), Some(0.into())).expect("root may");
}

/// What the user's daemon has: the plugin as it sees it, and a pool whose helpers are the program's.
struct User {
    site: PathBuf,
    pool: HelperPool,
    plugin: PluginInfo,
}

impl User {
    /// `None` unless this process is the child of a test.
    fn new() -> Option<Self> {
        let site = PathBuf::from(std::env::var_os(SITE)?);
        let mut options = PoolOptions::new("/nonexistent");
        options.privileged = Some(site.join("bin/daos_server_privileged"));
        // Settings of the user's choice, which nobody reads.
        let settings = json!({"on": {"mount": "abort", "devices": "abort"}});
        let settings = settings.as_object().expect("an object").clone();
        options.settings.insert(HOSTILE_FACES.to_owned(), settings);
        let file = site.join("plugins/faces.so");
        Some(Self {
            pool: HelperPool::new(options),
            plugin: PluginFile::inspect(&file, &Policy::default()).expect("a plugin"),
            site,
        })
    }

    fn class(&self) -> ClassRequest {
        let keys = json!({"scm_mount": self.site.join("mnt"), "scm_size_mib": 16});
        ClassRequest {
            class: "hostile".to_owned(),
            config: keys.as_object().expect("an object").clone(),
        }
    }

    async fn call(&self, operation: Operation) -> Result<serde_json::Value, HelperError> {
        let call = self
            .pool
            .call(&self.plugin, operation, CallOptions::default());
        call.await
    }

    async fn device(&self) -> DeviceSpec {
        let devices = self
            .pool
            .devices(&self.plugin, self.class(), CallOptions::default());
        devices.await.expect("devices")[0].clone()
    }

    /// The operation is refused for want of rights, with this word.
    #[track_caller]
    fn refused(result: Result<serde_json::Value, HelperError>, word: &str) {
        let error = result.expect_err("refused");
        let told = error.to_string();
        assert_eq!(error.status(), Status::PERMISSION, "{told}");
        assert!(told.contains(word), "{word:?} is missing in {told}");
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the kernel tells");
    mounts.contains(&format!(" {} tmpfs ", path.display()))
}

fn format_of(device: DeviceSpec) -> Operation {
    Operation::Format(FormatRequest {
        device,
        overwrite_foreign: true,
        nvme_format: false,
        check_only: false,
    })
}

/// Not a test of its own: the user of the first test.
#[test]
fn child_that_does_its_work() {
    let Some(user) = User::new() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let device = user.device().await;
        let mount = user.site.join("mnt");
        user.call(format_of(device.clone()))
            .await
            .expect("formatted");
        user.call(Operation::Mount(device.clone()))
            .await
            .expect("mounted");
        assert!(is_mounted(&mount));
        assert_eq!(std::fs::metadata(&mount).expect("mounted").uid(), USER);
        // The rights of the process are those that the manifest declares: CHOWN, DAC_OVERRIDE, SYS_ADMIN.
        let declared = format!("{:016x}", (1u64 << 0) | (1 << 1) | (1 << 21));
        let children = std::fs::read_dir("/proc/self/task")
            .expect("threads")
            .flatten();
        let children: Vec<String> = children
            .filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok())
            .flat_map(|c| c.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert_eq!(children.len(), 1, "{children:?}");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", children[0])).expect("threads");
        for task in tasks.flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).expect("readable");
            for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
                assert!(
                    status.contains(&format!("{set}:\t{declared}")),
                    "{set} of {status}"
                );
            }
            assert!(
                status.contains("Uid:\t65534\t65534\t65534\t65534"),
                "{status}"
            );
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        }
        let memory = std::fs::File::open(format!("/proc/{}/mem", children[0]));
        assert!(memory.is_err(), "the user can write to its memory");
        user.call(Operation::Unmount(device))
            .await
            .expect("unmounted");
        user.pool.end().await;
    });
}

#[test]
fn a_daemon_without_rights_mounts_what_the_configuration_names() {
    let test = "a_daemon_without_rights_mounts_what_the_configuration_names";
    let Some(site) = Site::new(test) else { return };
    site.run_child("child_that_does_its_work");
    // Without the bit there are no rights to be had, and that is said.
    chmod(&site.program(), 0o755);
    site.is_refused(HOSTILE_FACES, &["4750"]);
}

/// Not a test of its own: the user of the second test.
#[test]
fn child_that_wants_more() {
    let Some(user) = User::new() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let own = user.device().await;
        // Another place, under the name of a device and in the keys of the class.
        let mut elsewhere = own.clone();
        elsewhere.address = "/etc".to_owned();
        let etc = json!({"scm_mount": "/etc", "scm_size_mib": 16});
        elsewhere.config = etc.as_object().expect("an object").clone();
        for operation in [
            Operation::Mount(elsewhere.clone()),
            Operation::Unmount(elsewhere.clone()),
            Operation::Health(elsewhere.clone()),
            format_of(elsewhere.clone()),
            Operation::ReadMountFile {
                device: elsewhere.clone(),
                file: MountFile::Superblock,
            },
            Operation::RemoveMountFile {
                device: elsewhere.clone(),
                file: MountFile::Superblock,
            },
        ] {
            User::refused(
                user.call(operation).await,
                "/etc is no device of this host's engines",
            );
        }
        let mut request = user.class();
        request.config.clone_from(&elsewhere.config);
        User::refused(
            user.call(Operation::Validate(request.clone())).await,
            "otherwise",
        );
        User::refused(user.call(Operation::Devices(request)).await, "otherwise");
        // The right name with other keys: the keys are not looked at.
        let mut disguised = own.clone();
        disguised.config.clone_from(&elsewhere.config);
        user.call(format_of(disguised.clone()))
            .await
            .expect("the device of the configuration");
        user.call(Operation::Mount(disguised))
            .await
            .expect("the device of the configuration");
        assert!(is_mounted(&user.site.join("mnt")) && !is_mounted(Path::new("/etc")));
        // What root does by hand.
        for operation in [
            Operation::Prepare(serde_json::Map::new()),
            Operation::Release(serde_json::Map::new()),
        ] {
            User::refused(user.call(operation).await, "root alone");
        }
        let update = json!({"update": {"device": own.address, "image": "/etc/shadow"}});
        let update = update.as_object().expect("an object").clone();
        User::refused(user.call(Operation::Firmware(update)).await, "root alone");
        // A link below the mount, which is the user's.
        let secret = user.site.join("secret");
        symlink(&secret, user.site.join("mnt/superblock")).expect("the mount is the user's");
        let read = Operation::ReadMountFile {
            device: own.clone(),
            file: MountFile::Superblock,
        };
        let told = user.call(read).await;
        assert!(told.is_err(), "{told:?}");
        user.pool.end().await;
    });
}

#[test]
fn driving_it_directly_gains_nothing() {
    let Some(site) = Site::new("driving_it_directly_gains_nothing") else {
        return;
    };
    let secret = site.path("secret");
    std::fs::write(&secret, "{}").expect("our file");
    chmod(&secret, 0o600);
    site.run_child("child_that_wants_more");
    // A plugin that is not in the directory of the configuration.
    install(RAW, &site.path("theirs"), "raw.so");
    site.is_refused(RAW, &["has no plugin fixture-raw"]);
    site.is_refused("../theirs/raw", &["has no plugin"]);
    assert!(secret.exists());
}

/// Not a test of its own: the user of the third test.
#[test]
fn child_that_owns_the_way() {
    let Some(user) = User::new() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut class = user.class();
        let place = user.site.join("theirs/mnt").display().to_string();
        class
            .config
            .insert("scm_mount".to_owned(), place.clone().into());
        let devices = user
            .pool
            .devices(&user.plugin, class, CallOptions::default());
        let device = devices.await.expect("devices")[0].clone();
        // The way leads into what is root's.
        symlink(user.site.join("mnt"), &place).expect("the user's directory");
        let told = user.call(format_of(device.clone())).await;
        assert!(told.is_err(), "{told:?}");
        std::fs::remove_file(&place).expect("the user's directory");
        // As far as the user could do it alone; that is a directory, and a tmpfs is not to be had.
        let told = user
            .call(format_of(device))
            .await
            .map_err(|e| e.to_string());
        assert!(told.is_err_and(|e| e.contains("tmpfs")));
        assert!(!is_mounted(Path::new(&place)) && !is_mounted(&user.site.join("mnt")));
        user.pool.end().await;
    });
}

#[test]
fn what_others_could_have_changed_is_not_believed() {
    let test = "what_others_could_have_changed_is_not_believed";
    let Some(site) = Site::new(test) else { return };
    // A mount point that the user could exchange for a link.
    site.configure(&site.path("theirs/mnt"), "");
    site.run_child("child_that_owns_the_way");
    // Somebody else's daemon.
    site.configure(&site.path("mnt"), "user_name: daemon\n");
    site.is_refused(HOSTILE_FACES, &["user_name is daemon", "user 65534 calls"]);
    site.configure(&site.path("mnt"), "user_name: nobody\n");
    // Modes and owners, each put back before the next.
    let plugin = site.path("plugins/faces.so");
    let configuration = site.path("etc/daos/daos_server.yml");
    for (path, mode, good, words) in [
        (&plugin, 0o666, 0o644, "has no plugin fixture-hostile-faces"),
        (
            &site.path("plugins"),
            0o777,
            0o755,
            "has no plugin fixture-hostile-faces",
        ),
        (&configuration, 0o646, 0o644, "not root's alone"),
        (&site.path("etc/daos"), 0o757, 0o755, "not root's alone"),
    ] {
        assert_eq!(
            std::fs::metadata(path).expect("there").permissions().mode() & 0o777,
            good
        );
        chmod(path, mode);
        site.is_refused(HOSTILE_FACES, &[words]);
        chmod(path, good);
    }
    nix::unistd::chown(&configuration, Some(USER.into()), None).expect("root may");
    site.is_refused(HOSTILE_FACES, &["not root's alone"]);
    std::fs::remove_file(&configuration).expect("our file");
    site.is_refused(HOSTILE_FACES, &["/etc/daos/daos_server.yml"]);
}

/// The program by hand, by root: nothing to have.
#[test]
fn root_does_not_need_it() {
    let Some(site) = Site::new("root_does_not_need_it") else {
        return;
    };
    let output = Command::new(site.program())
        .args([HOSTILE_FACES, "--parent", "1"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("daos_server_helper"), "{text}");
}
