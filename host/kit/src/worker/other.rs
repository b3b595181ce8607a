//! Other processes for cases that need one: started by the process that runs the case, in its process group, so
//! that the one who started that ends all of them.

use super::{Link, cases};
use crate::protocol::{Command, Event, Subject};
use daos_loader::Loaded;
use daos_plugin_api::conformance::{Ended, Line, Process, Processes, play};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time for a process to start and load the plugin.
const START: Duration = Duration::from_secs(30);

/// Starts processes that have loaded the subject.
#[derive(Debug)]
pub(super) struct Starter(pub(super) Subject);

impl Processes for Starter {
    fn start(&self, role: &str) -> Result<Box<dyn Process>, String> {
        let mut other = Other::spawn().map_err(|e| format!("cannot start a process: {e}"))?;
        other.send(&Command::Load(Box::new(self.0.clone())));
        match other.next(START) {
            Ok(Some(Event::Loaded)) => {}
            Ok(Some(Event::Refused(why))) => return Err(why),
            Ok(Some(_)) => return Err("its process answers out of turn".to_owned()),
            Ok(None) => return Err(format!("the plugin is not loaded within {START:?}")),
            Err(_) => {
                let how = other.ended(Duration::from_secs(1));
                return Err(format!(
                    "its process is gone while it loads the plugin: {how:?}"
                ));
            }
        }
        other.send(&Command::Play(role.to_owned()));
        Ok(Box::new(other))
    }
}

/// A process of the other half of a case.
struct Other {
    child: Child,
    commands: UnixStream,
    events: Receiver<Event>,
}

impl Other {
    fn spawn() -> io::Result<Self> {
        let (commands, theirs) = UnixStream::pair()?;
        // Its log lines are this process's, which the other side keeps.
        // This program, also where its file has been replaced since it was started.
        let child = std::process::Command::new("/proc/self/exe")
            .arg("--kit")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        let reader = BufReader::new(commands.try_clone()?);
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                // What is none ends the conversation: it is not the process that speaks.
                let Ok(event) = serde_json::from_str(&line) else {
                    return;
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            commands,
            events,
        })
    }

    fn send(&mut self, command: &Command) {
        if let Ok(mut line) = serde_json::to_vec(command) {
            line.push(b'\n');
            // If nobody listens any more, the next answer says so.
            let _ = self.commands.write_all(&line);
        }
    }

    fn next(&mut self, limit: Duration) -> io::Result<Option<Event>> {
        match self.events.recv_timeout(limit) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Line for Other {
    fn tell(&mut self, text: &str) {
        self.send(&Command::Tell(text.to_owned()));
    }

    fn hear(&mut self, limit: Duration) -> io::Result<Option<String>> {
        match self.next(limit)? {
            None => Ok(None),
            Some(Event::Told(text)) => Ok(Some(text)),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Process for Other {
    fn ended(&mut self, limit: Duration) -> Option<Ended> {
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return match (status.signal(), status.code()) {
                    (Some(signal), _) => Some(Ended::Signal(signal)),
                    (None, code) => Some(Ended::Code(code.unwrap_or_default())),
                };
            }
            if start.elapsed() > limit {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a role and ends the process with the connection.
pub(super) fn run(
    loaded: &Loaded,
    subject: &Subject,
    role: &str,
    link: &Link,
    commands: impl Iterator<Item = String> + Send + 'static,
) -> ! {
    let (sender, told) = channel();
    thread::spawn(move || {
        for line in commands {
            if let Ok(Command::Tell(text)) = serde_json::from_str(&line) {
                let _ = sender.send(text);
            }
        }
        // Whoever runs the case is gone or has heard enough: nothing of this process is wanted any more, whatever
        // the plugin is doing.
        std::process::exit(0);
    });
    let target = cases::target(subject);
    play(loaded.table, &target, role, &mut Stage { link, told });
    loop {
        thread::park();
    }
}

struct Stage<'a> {
    link: &'a Link,
    told: Receiver<String>,
}

impl Line for Stage<'_> {
    fn tell(&mut self, text: &str) {
        self.link.send(&Event::Told(text.to_owned()));
    }

    fn hear(&mut self, limit: Duration) -> io::Result<Option<String>> {
        match self.told.recv_timeout(limit) {
            Ok(text) => Ok(Some(text)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
