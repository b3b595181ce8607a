//! A running `daos_server` with its engines.

use crate::process::{Finished, is_stopped, kill_session, process_name, session_processes};
use crate::session::in_own_session;
use crate::site::Site;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Tries until there is an answer.
///
/// # Panics
/// There is none within [`LIMIT`].
#[track_caller]
pub fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A running `daos_server`. Everything that it started is killed with this value.
pub struct Server<'a> {
    site: &'a Site,
    process: Child,
    /// The session of all its processes; its own process id.
    session: u32,
}

impl<'a> Server<'a> {
    #[track_caller]
    pub(crate) fn start(site: &'a Site, args: &[&str]) -> Self {
        let log = File::options()
            .append(true)
            .create(true)
            .open(site.path("server.log"))
            .expect("a log can be written");
        let mut command = site.command("daos_server");
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be duplicated"))
            .stderr(log);
        in_own_session(&mut command);
        let process = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start daos_server: {e}"));
        let session = process.id();
        Self {
            site,
            process,
            session,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Everything that the servers of this site have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.site.path("server.log")).unwrap_or_default()
    }

    /// Waits until `system query` says what `wanted` looks for, and returns that answer.
    ///
    /// # Panics
    /// The server ends, or takes too long.
    #[track_caller]
    pub fn wait_state(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        let mut last = None;
        loop {
            if let Some(status) = self
                .process
                .try_wait()
                .expect("our child can be waited for")
            {
                panic!("daos_server ended ({status}) before it was {what}");
            }
            if let Some(state) = self.site.state() {
                if wanted(&state) {
                    return state;
                }
                last = Some(state);
            }
            assert!(
                Instant::now() < deadline,
                "the server was not {what} within {LIMIT:?}, last {last:#?}"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the server is in a phase.
    ///
    /// # Panics
    /// The server ends, or takes too long.
    #[track_caller]
    pub fn wait_phase(&mut self, phase: &str) -> Value {
        self.wait_state(phase, |state| state["phase"] == phase)
    }

    /// Formats its storage.
    #[track_caller]
    pub fn format(&self, flags: &[&str]) -> Finished {
        self.site
            .shell(&[&["storage", "format", "--force"], flags].concat())
    }

    /// Formats its storage for the first time, and waits until all engines serve.
    ///
    /// # Panics
    /// That fails.
    #[track_caller]
    pub fn make_ready(&mut self) -> Value {
        self.wait_phase("maintenance");
        self.format(&[]).expect(0);
        self.wait_phase("ready")
    }

    /// Process of an engine.
    ///
    /// # Panics
    /// It does not run.
    #[track_caller]
    pub fn engine_pid(&self, index: usize) -> u32 {
        let state = self.site.state().expect("the server answers");
        let pid = state["engines"][index]["pid"].as_u64().unwrap_or(0);
        assert_ne!(pid, 0, "engine {index} does not run: {state:#}");
        u32::try_from(pid).expect("a process id")
    }

    /// Kills an engine's process; returns its id.
    ///
    /// # Panics
    /// It does not run.
    #[track_caller]
    pub fn kill_engine(&self, index: usize) -> u32 {
        let pid = self.engine_pid(index);
        kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the engine can be killed");
        pid
    }

    /// Kills the server's own process, and waits until it is dead.
    pub fn kill(&mut self) -> ExitStatus {
        self.process.kill().expect("our child can be killed");
        self.process.wait().expect("our child can be waited for")
    }

    /// Waits for the server's own end.
    ///
    /// # Panics
    /// It does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let process = &mut self.process;
        eventually("the server ends", || {
            process.try_wait().expect("our child can be waited for")
        })
    }

    /// Asks the server to end.
    pub fn terminate(&self) {
        kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM).expect("the server can be asked");
    }

    /// Helpers that run now.
    pub fn helpers(&self) -> Vec<u32> {
        let mut all = self.processes();
        all.retain(|pid| process_name(*pid) == "daos_server_hel");
        all
    }

    /// Waits until a process of this server has stopped itself; returns its id.
    ///
    /// # Panics
    /// None does.
    #[track_caller]
    pub fn wait_stopped(&self, what: &str) -> u32 {
        eventually(what, || {
            self.processes().into_iter().find(|pid| is_stopped(*pid))
        })
    }

    /// Processes of the server and of everything it started.
    pub fn processes(&self) -> Vec<u32> {
        session_processes(self.session)
    }

    /// Asks the server to end, and requires that it does so well and leaves no process.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn stop(mut self) {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "daos_server ended with {status}");
        let left = self.processes();
        assert!(
            left.is_empty(),
            "processes {left:?} are left: {}",
            lines(&left)
        );
    }
}

fn lines(pids: &[u32]) -> String {
    let line = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text: Vec<String> = pids.iter().map(line).collect();
    text.join("; ").replace('\0', " ")
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let from = log.char_indices().rev().nth(8000).map_or(0, |(at, _)| at);
            eprintln!("--- log of the server\n{}\n---", &log[from..]);
        }
        kill_session(self.session);
        // Reaps it; fails only if that was done before.
        let _ = self.process.wait();
    }
}
