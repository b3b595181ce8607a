//! Running programs with a time limit, and finding what they leave.

use crate::server::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its command line, for messages.
    pub line: String,
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Requires an exit status.
    ///
    /// # Panics
    /// It was another one; shows what the program printed.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit status of {self}");
        self
    }

    /// Everything that it printed.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its standard output as a JSON document.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in the output of {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- standard output\n{}\n--- standard error\n{}\n---",
            self.line, self.stdout, self.stderr
        )
    }
}

/// A program that runs beside a test. It is killed with this value.
pub struct Running(Child);

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// It cannot be run.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}")))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end within [`LIMIT`](crate::LIMIT).
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        eventually("a program of the test's ends", || {
            self.0.try_wait().expect("our child can be waited for")
        })
    }

    /// Kills it, and waits until it is dead.
    pub fn kill(&mut self) -> ExitStatus {
        self.0.kill().expect("our child can be killed");
        self.0.wait().expect("our child can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end, with nothing on standard input.
///
/// # Panics
/// It cannot be run, or takes longer than `limit` (it is killed then).
#[track_caller]
pub fn finish(mut command: Command, limit: Duration) -> Finished {
    command.stdin(Stdio::null());
    end_of(command, "", limit)
}

/// Runs a program to its end that reads these words on standard input; few enough for a pipe.
///
/// # Panics
/// As for [`finish`].
#[track_caller]
pub fn finish_told(mut command: Command, words: &str, limit: Duration) -> Finished {
    command.stdin(Stdio::piped());
    end_of(command, words, limit)
}

#[track_caller]
fn end_of(mut command: Command, words: &str, limit: Duration) -> Finished {
    let line = format!("{command:?}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {line}: {e}"));
    if let Some(mut input) = child.stdin.take() {
        // Who does not read ends by itself, which shows.
        let _ = input.write_all(words.as_bytes());
    }
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child can be waited for") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            // Fails only if it has just ended.
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let text = |reader: Option<JoinHandle<String>>| {
        reader.map_or_else(String::new, |r| r.join().unwrap_or_default())
    };
    let finished = Finished {
        line,
        code: status.and_then(|s| s.code()),
        stdout: text(stdout),
        stderr: text(stderr),
    };
    assert!(status.is_some(), "not done within {limit:?}: {finished}");
    finished
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is to show.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Processes of a session that are not dead: whoever descends from its leader, also after the leader's
/// end.
pub fn session_processes(session: u32) -> Vec<u32> {
    let numbers = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may hold anything: state, parent, group, session.
            let mut fields = stat
                .rsplit_once(") ")
                .map_or("", |(_, rest)| rest)
                .split(' ');
            let state = fields.next().unwrap_or("X");
            !matches!(state, "Z" | "X") && fields.nth(2) == Some(&session.to_string())
        })
        .collect()
}

/// Whether a process is stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Name of a process, as the kernel shows it: at most 15 bytes. Empty if there is none.
pub fn process_name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| String::new(), |name| name.trim_end().to_owned())
}

/// Kills a whole session and waits until it is gone.
pub(crate) fn kill_session(session: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let alive = session_processes(session);
        if alive.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            eprintln!("processes {alive:?} of session {session} cannot be killed");
            return;
        }
        for pid in alive {
            // Fails only if it has just ended.
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
