//! The fabric between two network namespaces: client and engine share nothing but a pair of interfaces.

use daos_e2e::{Bdev, LIMIT, Site, eventually, finish, may_mount, not_run};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const PREFIX: &str = "daos-e2e-";

/// Removes namespaces of test programs that were killed.
fn sweep() {
    for name in ip("netns list").unwrap_or_default().split_whitespace() {
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err()) {
            // Somebody else may have been faster.
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

/// Two namespaces with a cable between them.
pub(crate) struct Namespaces {
    pub(crate) server: String,
    pub(crate) client: String,
}

pub(crate) fn ip(line: &str) -> Result<String, String> {
    let mut command = Command::new("ip");
    command.args(line.split(' '));
    let done = finish(command, LIMIT);
    match done.code {
        Some(0) => Ok(done.stdout),
        _ => Err(format!("ip {line}: {}", done.stderr.trim())),
    }
}

impl Namespaces {
    /// With a cable: `daos0` (192.0.2.1) of the server, `daos1` (192.0.2.2) of the client.
    pub(crate) fn new() -> Result<Self, String> {
        let spaces = Self::without_cable()?;
        spaces.cable(0)?;
        Ok(spaces)
    }

    /// Only loopbacks.
    pub(crate) fn without_cable() -> Result<Self, String> {
        /// Tests of one program run side by side.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !may_mount() {
            return Err("network namespaces need root".to_owned());
        }
        sweep();
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let spaces = Self {
            server: format!("{name}s"),
            client: format!("{name}c"),
        };
        for space in [&spaces.server, &spaces.client] {
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(spaces)
    }

    /// Adds cable n: interface `daos<2n>` of the server (address 192.0.<2+n>.1) and `daos<2n+1>` of the client
    /// (192.0.<2+n>.2), and waits until it is up.
    pub(crate) fn cable(&self, n: u32) -> Result<(), String> {
        let (s, c) = (&self.server, &self.client);
        let (near, far) = (format!("daos{}", 2 * n), format!("daos{}", 2 * n + 1));
        ip(&format!(
            "-n {s} link add {near} type veth peer name {far} netns {c}"
        ))?;
        for (space, name, host) in [(s, &near, 1), (c, &far, 2)] {
            let net = 2 + n;
            ip(&format!(
                "-n {space} address add 192.0.{net}.{host}/24 dev {name}"
            ))?;
            ip(&format!("-n {space} link set {name} up"))?;
        }
        // The carrier comes a moment later; until then nobody chooses the interface by itself.
        for (space, name) in [(s, &near), (c, &far)] {
            eventually("the cable is plugged in", || {
                let shown = ip(&format!("-n {space} link show {name}"));
                shown
                    .is_ok_and(|text| text.contains("state UP"))
                    .then_some(())
            });
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            // Fails if it was never made.
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

/// Moves this thread into a namespace.
fn enter(space: &str) {
    let file = File::open(format!("/run/netns/{space}")).expect("a namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter");
}

/// Does something in a namespace, on a thread that ends there.
pub(crate) fn within<T: Send>(space: &str, what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(space);
            what()
        });
        inside
            .join()
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    })
}

/// Carries the control plane, which listens on loopback only, from one namespace into the other.
pub(crate) struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Relay {
    pub(crate) fn start(spaces: &Namespaces, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, from, to) = (
            Arc::clone(&stop),
            spaces.client.clone(),
            spaces.server.clone(),
        );
        let (ready, listening) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            enter(&from);
            let listener = TcpListener::bind(("127.0.0.1", port)).expect("an empty namespace");
            listener.set_nonblocking(true).expect("our socket");
            // From here on connections go out of the other namespace; the listener stays.
            enter(&to);
            ready.send(()).expect("the test waits");
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((near, _)) => carry(near, port),
                    Err(_) => thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        listening.recv().expect("the relay listens");
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

fn carry(near: TcpStream, port: u16) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let pairs = [
        (near.try_clone(), far.try_clone()),
        (far.try_clone(), near.try_clone()),
    ];
    for (from, to) in pairs {
        let (mut from, mut to) = (from.expect("our socket"), to.expect("our socket"));
        from.set_nonblocking(false).expect("our socket");
        thread::spawn(move || {
            // The end of either side ends both; what it says is the peers' concern.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the relay shows in the test as no connection.
            let _ = thread.join();
        }
    }
}

#[test]
fn data_crosses_from_one_network_namespace_to_another() {
    let test = "data_crosses_from_one_network_namespace_to_another";
    let spaces = match Namespaces::new() {
        Ok(spaces) => spaces,
        Err(reason) => return not_run(test, &reason),
    };
    let mut site = Site::new();
    let bdev = Bdev::File(site.path("bdev0"));
    site.add_engine(bdev, 2);
    site.set_iface("daos0");
    let inside = |space: &str| format!("--net=/run/netns/{space}");
    site.set_wrapper(&["nsenter", &inside(&spaces.server)]);
    let mut server = site.start();
    server.make_ready();
    site.ensure_pool();

    let relay = Relay::start(&spaces, site.port());
    site_client(
        &site,
        &inside(&spaces.client),
        &["bench", "--verify", "--seconds", "1"],
    );
    drop(relay);
    server.stop();
}

/// Runs `daos` in another namespace.
pub(crate) fn site_client(site: &Site, net: &str, args: &[&str]) {
    let mut command = Command::new("nsenter");
    command
        .arg(net)
        .arg(site.program("daos"))
        .args(site.client_args())
        .args(args);
    finish(command, Duration::from_secs(60)).expect(0);
}
