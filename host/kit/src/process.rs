//! A worker process: started in a process group of its own, listened to, ended with all it started.

use crate::protocol::{Command, Event, Subject};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The program that loads plugins, and how.
#[derive(Clone, Debug)]
pub struct Helper {
    /// `daos_server_helper`.
    pub program: PathBuf,
    /// Most detailed log level: `error` to `trace`.
    pub log_level: String,
}

impl Helper {
    /// The program beside the one that runs.
    ///
    /// # Errors
    /// The path of the running program is unknown.
    pub fn beside_current_exe() -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?.with_file_name("daos_server_helper"),
            log_level: "info".to_owned(),
        })
    }
}

/// Log lines that are kept for a failure.
const LINES: usize = 20;
/// Longest line that is kept, in characters.
const LINE: usize = 500;
/// How long output of a process that ended may still be under way.
const DRAIN: Duration = Duration::from_millis(500);

enum Heard {
    Event(Event),
    Line(String),
    Nonsense(String),
    /// One of the two streams ended.
    End,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The process ended: how.
    Died(String),
    /// It was not back in time and was killed.
    Late(Duration),
    /// It sent what it cannot have meant, and was killed.
    Nonsense(String),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Died(how) => f.write_str(how),
            Self::Late(limit) => write!(
                f,
                "no end within the deadline of {} s; its process was killed",
                limit.as_secs()
            ),
            Self::Nonsense(line) => write!(
                f,
                "it disturbed the connection of its process, which it does not own ({line}); its process was killed"
            ),
        }
    }
}

/// Why there is no worker.
#[derive(Debug)]
pub(crate) enum NoWorker {
    /// The process cannot be started.
    System(io::Error),
    /// The plugin cannot be loaded: a sentence.
    Refused(String),
    /// It took its process along while it was loaded.
    Lost(Loss, Vec<String>),
}

pub(crate) struct Worker {
    child: Child,
    commands: UnixStream,
    heard: Receiver<Heard>,
    open_streams: usize,
    lines: VecDeque<String>,
    /// Heard while only lines were wanted.
    pending: VecDeque<Event>,
    ended: bool,
}

impl Worker {
    /// Starts a process and loads the plugin in it.
    pub(crate) fn start(
        helper: &Helper,
        subject: &Subject,
        limit: Duration,
    ) -> Result<Self, NoWorker> {
        let mut worker = Self::spawn(helper).map_err(NoWorker::System)?;
        worker.send(&Command::Load(Box::new(subject.clone())));
        match worker.next(limit) {
            Ok(Event::Loaded) => Ok(worker),
            Ok(Event::Refused(why)) => Err(NoWorker::Refused(why)),
            Ok(_) => Err(NoWorker::Refused("its process answers out of turn".into())),
            Err(loss) => Err(NoWorker::Lost(loss, worker.lines())),
        }
    }

    fn spawn(helper: &Helper) -> io::Result<Self> {
        let (commands, theirs) = UnixStream::pair()?;
        let (output, input) = io::pipe()?;
        let mut command = std::process::Command::new(&helper.program);
        command
            .arg("--kit")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .env("DAOS_KIT_LOG", &helper.log_level)
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(input.try_clone()?)
            .stderr(input);
        let child = command.spawn().map_err(|e| {
            let program = helper.program.display();
            io::Error::new(e.kind(), format!("cannot start {program}: {e}"))
        })?;
        // Closes this side's copies: the ends of the streams depend on it.
        drop(command);
        let (sender, heard) = channel();
        let reader = commands.try_clone()?;
        listen(reader, sender.clone(), |line| {
            match serde_json::from_str(&line) {
                Ok(event) => Heard::Event(event),
                Err(_) => Heard::Nonsense(line.chars().take(60).collect()),
            }
        });
        listen(output, sender, Heard::Line);
        Ok(Self {
            child,
            commands,
            heard,
            open_streams: 2,
            lines: VecDeque::new(),
            pending: VecDeque::new(),
            ended: false,
        })
    }

    /// Sends a command. If the process is gone, the next answer says so.
    pub(crate) fn send(&mut self, command: &Command) {
        if let Ok(mut line) = serde_json::to_vec(command) {
            line.push(b'\n');
            let _ = self.commands.write_all(&line);
        }
    }

    /// Waits for the next event. After a loss the process is gone.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Event, Loss> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(event);
        }
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            // Woken up now and then: what a plugin started may hold the streams of its dead process.
            match self
                .heard
                .recv_timeout(left.min(Duration::from_millis(100)))
            {
                Ok(Heard::Event(event)) => return Ok(event),
                Ok(Heard::Line(line)) => self.keep(&line),
                Ok(Heard::Nonsense(line)) => {
                    self.end();
                    return Err(Loss::Nonsense(line));
                }
                Ok(Heard::End) => self.open_streams -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    if left.is_zero() {
                        self.end();
                        return Err(Loss::Late(limit));
                    }
                    if self.open_streams == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            if self.has_ended() {
                if let Some(event) = self.drain() {
                    return Ok(event);
                }
                return Err(Loss::Died(self.end()));
            }
        }
    }

    /// Takes what the process said before its end; an event among it comes first.
    fn drain(&mut self) -> Option<Event> {
        let start = Instant::now();
        while self.open_streams > 0 && start.elapsed() < DRAIN {
            match self.heard.recv_timeout(Duration::from_millis(20)) {
                Ok(Heard::Event(event)) => return Some(event),
                Ok(Heard::Line(line)) => self.keep(&line),
                Ok(Heard::End) => self.open_streams -= 1,
                Ok(Heard::Nonsense(_)) | Err(_) => {}
            }
        }
        None
    }

    fn keep(&mut self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(LINE)
            .collect();
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Forgets log lines of earlier work.
    pub(crate) fn forget_lines(&mut self) {
        self.lines.clear();
    }

    /// The last log lines, and what the process wrote to its standard streams.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        // The streams are read by two threads: a line may come a moment after the event it precedes.
        if !self.ended && self.open_streams > 0 {
            while let Ok(heard) = self.heard.recv_timeout(Duration::from_millis(20)) {
                match heard {
                    Heard::Line(line) => self.keep(&line),
                    Heard::End => self.open_streams -= 1,
                    Heard::Event(event) => self.pending.push_back(event),
                    Heard::Nonsense(_) => break,
                }
            }
        }
        self.lines.iter().cloned().collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Whether it ended; it is not reaped, so that the number of its group stays its own.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        loop {
            match waitid(Id::Pid(self.pid()), flags) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::StillAlive) => return false,
                _ => return true,
            }
        }
    }

    /// Kills what is left of it and reaps it; says how it ended.
    fn end(&mut self) -> String {
        if self.ended {
            return "its process is gone".to_owned();
        }
        self.ended = true;
        let _ = killpg(self.pid(), Signal::SIGKILL);
        match self.child.wait() {
            Ok(status) => match (status.signal(), status.code()) {
                (Some(number), _) => match Signal::try_from(number) {
                    Ok(signal) => format!("its process was killed by {signal}"),
                    Err(_) => format!("its process was killed by signal {number}"),
                },
                (None, Some(code)) if code == i32::from(daos_loader::EXIT_TAKEN) => {
                    "it closed its process's connection, a descriptor that is not its own, or put another file in its place"
                        .to_owned()
                }
                (None, Some(code)) => format!("it ended its process with exit code {code}"),
                (None, None) => "its process vanished".to_owned(),
            },
            Err(e) => format!("its process vanished: {e}"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes lines of `stream` on until it ends.
fn listen(
    stream: impl io::Read + Send + 'static,
    sender: Sender<Heard>,
    heard: impl Fn(String) -> Heard + Send + 'static,
) {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        // Not endless ones: a plugin may write anything.
        while let Ok(n) = io::Read::take(&mut reader, 4 << 20).read_until(b'\n', &mut line) {
            if n == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if sender.send(heard(text)).is_err() {
                return;
            }
        }
        let _ = sender.send(Heard::End);
    });
}
