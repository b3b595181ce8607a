//! A storage node in a private directory.

use crate::config::{Bdev, Engine, Plugins, Top, render};
use crate::port::Port;
use crate::private_dir::PrivateDir;
use crate::process::{Finished, finish};
use crate::programs::Programs;
use crate::server::{LIMIT, Server};
use nix::unistd::{Gid, Uid, chown};
use serde_json::Value;
use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Numbers of the user and the group `nobody`, as far as they are the same everywhere.
pub(crate) const NOBODY: u32 = 65_534;

/// Names the provider of sites that choose none themselves: `tcp`, the built-in one, or one of libfabric's.
const PROVIDER: &str = "DAOS_E2E_PROVIDER";

/// Whether this program is root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether this program may mount file systems: root outside of a container that takes that away.
pub fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1)
}

/// Who runs the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Caller,
    /// Someone without privileges: `nobody` if root runs the tests, else whoever runs them.
    Unprivileged,
    /// `nobody` with the one right that helpers need for mounting, CAP_SYS_ADMIN, as a unit's `AmbientCapabilities=` gives
    /// it. Takes root.
    Mounter,
}

/// Starts a program as [`User::Mounter`].
const AS_MOUNTER: [&str; 7] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+sys_admin",
    "--ambient-caps=+sys_admin",
    "--",
];

impl User {
    fn becomes_nobody(self) -> bool {
        self != Self::Caller && is_root()
    }
}

/// A storage node in a private directory.
pub struct Site {
    dir: PrivateDir,
    /// Where SCM lies if nothing can be mounted.
    memory: Option<PrivateDir>,
    user: User,
    programs: Programs,
    port: Port,
    engines: RefCell<Vec<Engine>>,
    plugins: Plugins,
    top: String,
    provider: String,
    iface: String,
    certificates: Option<PathBuf>,
    has_ofi: bool,
    /// Clients find the provider among the site's plugins, too.
    has_own_provider: bool,
    wrapper: Vec<String>,
    env: Vec<(String, String)>,
}

impl Site {
    /// A node of the caller's, without engines yet.
    ///
    /// # Panics
    /// Its directory or the programs cannot be made.
    pub fn new() -> Self {
        Self::of(User::Caller)
    }

    /// A node of that user's, without engines yet.
    ///
    /// # Panics
    /// Its directory or the programs cannot be made.
    pub fn of(user: User) -> Self {
        let owner = user.becomes_nobody().then_some((NOBODY, NOBODY));
        let mut programs = Programs::built().clone();
        let dir = PrivateDir::new(&std::env::temp_dir(), owner);
        if owner.is_some() {
            programs = programs.copied_to(&dir.path().join("bin"));
        }
        let privileged = may_mount() && (owner.is_none() || user == User::Mounter);
        let memory = (!privileged).then(|| PrivateDir::new(Path::new("/dev/shm"), owner));
        let mut site = Self {
            dir,
            memory,
            user,
            programs,
            port: Port::reserve(),
            engines: RefCell::default(),
            plugins: Plugins::BuiltIn,
            top: String::new(),
            provider: "tcp".to_owned(),
            iface: "lo".to_owned(),
            certificates: None,
            has_ofi: false,
            has_own_provider: false,
            wrapper: match user {
                User::Mounter => AS_MOUNTER.map(str::to_owned).to_vec(),
                User::Caller | User::Unprivileged => Vec::new(),
            },
            env: Vec::new(),
        };
        for name in ["sockets", "state", "tmp", "home", "plugins"] {
            site.make_dir(name);
        }
        if let Ok(provider) = std::env::var(PROVIDER)
            && provider != site.provider
            && let Err(why) = site.install_ofi(&provider)
        {
            panic!("{PROVIDER} is {provider}: {why}");
        }
        site
    }

    /// A node with one engine of two targets.
    ///
    /// # Panics
    /// As [`Site::new`].
    pub fn with_file() -> Self {
        let site = Self::new();
        let bdev = Bdev::File(site.path("bdev0"));
        site.add_engine(bdev, 2);
        site
    }

    /// Makes a directory of the node's user.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        if self.user.becomes_nobody() {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            chown(&path, Some(uid), Some(gid)).expect("root may give directories away");
        }
        path
    }

    /// Adds an engine on SCM of its own; returns its index.
    pub fn add_engine(&self, bdev: Bdev, targets: u32) -> usize {
        let mut engines = self.engines.borrow_mut();
        let index = engines.len();
        let memory = self.memory.as_ref().unwrap_or(&self.dir);
        engines.push(Engine {
            scm_mount: memory.path().join(format!("scm{index}")),
            bdev,
            targets,
            extra: String::new(),
        });
        index
    }

    /// Changes an engine's entry for the next start.
    pub fn change_engine(&self, index: usize, change: impl FnOnce(&mut Engine)) {
        change(&mut self.engines.borrow_mut()[index]);
    }

    /// Mount point of an engine's SCM.
    pub fn scm(&self, index: usize) -> PathBuf {
        self.engines.borrow()[index].scm_mount.clone()
    }

    /// Mount points of all engines' SCM.
    pub fn scms(&self) -> Vec<PathBuf> {
        let engines = self.engines.borrow();
        engines.iter().map(|e| e.scm_mount.clone()).collect()
    }

    /// Takes plugins from files, which are put into the site's `plugins` directory.
    ///
    /// # Panics
    /// They cannot be put there.
    pub fn use_plugin_files(&mut self) {
        self.plugins = Plugins::Dir;
        Programs::built().install_plugins(&self.path("plugins"));
    }

    /// Searches the site's `plugins` directory without putting anything there.
    pub fn use_plugins_dir(&mut self) {
        self.plugins = Plugins::Dir;
    }

    /// Adds lines to the top of the config.
    pub fn add_config(&mut self, lines: &str) {
        self.top += lines;
    }

    /// Sets a provider of libfabric, whose plugin is put into the site's `plugins` directory; all other
    /// plugins stay as they are.
    ///
    /// # Errors
    /// Why that cannot be: the plugin was not built, or libfabric does not offer the provider here.
    ///
    /// # Panics
    /// The plugin cannot be put there.
    pub fn use_ofi(&mut self, provider: &str) -> Result<(), String> {
        self.install_ofi(provider)?;
        let dir = self.path("plugins").display().to_string();
        let scan = ["--json", "--plugins-dir", &dir, "storage", "scan"];
        let found = self.run("daos_server", &scan).expect(0).json();
        let devices = found["response"]["devices"].as_array();
        let offered = devices.into_iter().flatten().any(|device| {
            let class = device["class"].as_str().unwrap_or_default();
            device["plugin"] == "fabric-ofi"
                && class.split(';').next() == provider.split(';').next()
        });
        match offered {
            true => Ok(()),
            false => Err(format!("libfabric does not offer {provider} here")),
        }
    }

    fn install_ofi(&mut self, provider: &str) -> Result<(), String> {
        self.plugins = Plugins::Dir;
        (self.has_ofi, self.has_own_provider) = (true, true);
        Programs::built().install_ofi(&self.path("plugins"))?;
        self.provider = provider.to_owned();
        Ok(())
    }

    /// Makes certificates of all components, which everything uses from now on.
    ///
    /// # Panics
    /// They cannot be made.
    #[track_caller]
    pub fn use_certificates(&mut self) -> PathBuf {
        let dir = self.path("certs");
        let made = dir.display().to_string();
        self.run("daos_server", &["cert", "init", "--dir", &made])
            .expect(0);
        self.certificates = Some(dir.clone());
        dir
    }

    /// Uses the certificates of another site, whose system it belongs to.
    pub fn use_certificates_of(&mut self, other: &Self) {
        self.certificates.clone_from(&other.certificates);
    }

    /// Sets a provider of a plugin in the site's `plugins` directory, where clients look for it, too.
    pub fn use_own_provider(&mut self, provider: &str) {
        self.plugins = Plugins::Dir;
        self.has_own_provider = true;
        self.provider = provider.to_owned();
    }

    /// The provider in the configuration.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Name of the plugin that brings the provider.
    pub fn fabric_plugin(&self) -> &'static str {
        if self.is_ofi() {
            "fabric-ofi"
        } else {
            "fabric-tcp"
        }
    }

    pub(crate) fn is_ofi(&self) -> bool {
        self.has_ofi
    }

    /// Leaves provider and interface to the server.
    pub fn choose_fabric(&mut self) {
        self.provider.clear();
        self.iface.clear();
    }

    /// The fabric interface in the configuration.
    pub fn iface(&self) -> &str {
        &self.iface
    }

    /// Sets the fabric interface.
    pub fn set_iface(&mut self, iface: &str) {
        self.iface = iface.to_owned();
    }

    /// Runs the server and the tools below a program, such as `ip netns exec NAME`.
    pub fn set_wrapper(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|w| (*w).to_owned()).collect();
    }

    /// A path in the site's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The site's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its SCM lies: the site's directory, or a directory in memory.
    pub fn memory_dir(&self) -> &Path {
        self.memory.as_ref().unwrap_or(&self.dir).path()
    }

    /// Its control port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Address of its control plane.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The configuration.
    pub fn config_text(&self) -> String {
        let top = Top {
            dir: self.dir.path(),
            certificates: self.certificates.as_deref(),
            port: self.port(),
            plugins: self.plugins,
            provider: &self.provider,
            iface: &self.iface,
            extra: &self.top,
        };
        render(&top, &self.engines.borrow())
    }

    /// Writes the configuration; returns its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_config(&self) -> PathBuf {
        self.write_text(&self.config_text())
    }

    /// Writes a text of the test's as the configuration; returns its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_text(&self, text: &str) -> PathBuf {
        let path = self.path("daos_server.yml");
        fs::write(&path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        path
    }

    /// Sets a variable for everything that the site starts.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Takes such a variable back.
    pub fn clear_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// Puts the programs where every user can run them.
    ///
    /// # Panics
    /// They cannot be put there.
    pub fn copy_programs(&mut self) {
        self.programs = Programs::built().copied_to(&self.path("bin"));
    }

    /// Path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.path(name)
    }

    /// One of the programs as the site's user starts it.
    pub fn command(&self, program: &str) -> Command {
        self.command_of(&self.program(program))
    }

    /// A program as the site's user starts it: few variables, everything temporary below the site.
    pub fn command_of(&self, path: &Path) -> Command {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(path),
            Some((wrapper, rest)) => {
                let mut command = Command::new(wrapper);
                command.args(rest).arg(path);
                command
            }
        };
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("RUST_BACKTRACE", "1")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path());
        if self.user == User::Unprivileged && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs a program to its end.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, program: &str, args: &[S]) -> Finished {
        let mut command = self.command(program);
        command.args(args.iter().map(AsRef::as_ref));
        finish(command, LIMIT)
    }

    /// Runs `daos_shell` against the node.
    #[track_caller]
    pub fn shell(&self, args: &[&str]) -> Finished {
        let address = self.address();
        let mut all = match &self.certificates {
            None => vec!["-i".to_owned()],
            Some(dir) => vec!["--cert-dir".to_owned(), dir.display().to_string()],
        };
        all.extend(
            ["-l", &address]
                .iter()
                .chain(args)
                .map(|arg| (*arg).to_owned()),
        );
        self.run("daos_shell", &all)
    }

    /// Runs `daos` against the node.
    #[track_caller]
    pub fn daos(&self, args: &[&str]) -> Finished {
        let mut all = self.client_args();
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.run("daos", &all)
    }

    /// Options with which `daos` reaches the node.
    pub fn client_args(&self) -> Vec<String> {
        let mut args = vec!["--access-point".to_owned(), self.address()];
        if self.has_own_provider {
            let dir = self.path("plugins").display().to_string();
            args.extend(["--plugins-dir".to_owned(), dir]);
        }
        if let Some(dir) = &self.certificates {
            args.extend(["--cert-dir".to_owned(), dir.display().to_string()]);
        }
        args
    }

    /// Makes a pool of all space, for tests that only want to store something, unless there is one.
    #[track_caller]
    pub fn ensure_pool(&self) {
        let list = self.shell(&["--json", "pool", "list", "--no-query"]);
        let pools = list.expect(0).json()["response"]["pools"].take();
        if pools.as_array().is_none_or(Vec::is_empty) {
            self.shell(&["pool", "create", "tank", "--size", "100%"])
                .expect(0);
        }
    }

    /// What `system query` says about the node; `None` while it does not answer.
    #[track_caller]
    pub fn state(&self) -> Option<Value> {
        let done = self.shell(&["--json", "system", "query"]);
        if done.code != Some(0) {
            return None;
        }
        let state = done.json()["response"]["hosts"][self.address()].take();
        assert!(state.is_object(), "no answer of this host in {done}");
        Some(state)
    }

    /// Writes the configuration and starts the server.
    #[track_caller]
    pub fn start(&self) -> Server<'_> {
        self.write_config();
        let insecure = self.certificates.is_none().then_some("-i");
        let args = ["-o", "daos_server.yml", "start"];
        self.start_with(&args.into_iter().chain(insecure).collect::<Vec<_>>())
    }

    /// Starts the server with arguments of the test's.
    #[track_caller]
    pub fn start_with(&self, args: &[&str]) -> Server<'_> {
        Server::start(self, args)
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}
