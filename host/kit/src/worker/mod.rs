//! The process that loads the plugin.

mod bdev;
mod cases;
mod fabric;
mod meter;
mod other;
mod rig;
mod scm;

use crate::bench::{Measured, Measurement};
use crate::protocol::{Command, Event, Subject};
use daos_loader::{ConnectionIdentity, Loaded, PluginFile, Policy, load};
use daos_plugin_api::control::ClassKind;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// Serves the program that started this process, over `connection`, until that ends.
pub fn run(connection: UnixStream) -> ExitCode {
    forward_logs();
    let link = match Link::new(connection) {
        Ok(link) => link,
        Err(e) => {
            eprintln!("daos_server_helper: cannot use the connection: {e}");
            return ExitCode::from(2);
        }
    };
    let mut commands = BufReader::new(link.clone()).lines().map_while(Result::ok);
    let Some(Ok(Command::Load(subject))) = commands.next().map(|l| serde_json::from_str(&l)) else {
        eprintln!("daos_server_helper: the first command was not `load`");
        return ExitCode::from(2);
    };
    let loaded = match open(&subject) {
        Ok(loaded) => loaded,
        Err(why) => {
            link.send(&Event::Refused(why));
            return ExitCode::from(2);
        }
    };
    link.send(&Event::Loaded);
    let mut stage = Stage::Empty;
    while let Some(line) = commands.next() {
        let answer = match serde_json::from_str(&line) {
            Ok(Command::Check {
                cases,
                refuse,
                seed,
            }) => {
                cases::run(&loaded, &subject, cases, refuse, seed, &link);
                Event::Done
            }
            Ok(Command::Play(role)) => other::run(&loaded, &subject, &role, &link, commands),
            Ok(Command::Prepare) => match Stage::set(&loaded, &subject) {
                Ok(ready) => {
                    stage = ready;
                    Event::Done
                }
                Err(why) => Event::Failed(why),
            },
            Ok(Command::Measure(what)) => Event::Measured(stage.measure(&what).map(Box::new)),
            Ok(Command::GiveBack) => match std::mem::replace(&mut stage, Stage::Empty).clear() {
                Ok(()) => Event::Done,
                Err(why) => Event::Failed(why),
            },
            Ok(Command::Load(_) | Command::Tell(_)) | Err(_) => {
                Event::Failed(format!("a command that this helper does not know: {line}"))
            }
        };
        link.send(&answer);
    }
    ExitCode::SUCCESS
}

/// The connection. Plugins may have closed it, or put something else in its place: it is looked at before it is used.
#[derive(Clone)]
struct Link {
    writer: Arc<Mutex<UnixStream>>,
    reader: Arc<UnixStream>,
    identity: ConnectionIdentity,
}

impl Link {
    fn new(connection: UnixStream) -> io::Result<Self> {
        Ok(Self {
            identity: ConnectionIdentity::of(&connection)?,
            reader: Arc::new(connection.try_clone()?),
            writer: Arc::new(Mutex::new(connection)),
        })
    }

    /// Sends an event; if nobody listens any more, this process is about to be ended.
    fn send(&self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let mut stream = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            // The other one, too: what is read next may be the plugin's own.
            self.identity.must_be_of(&self.reader);
            self.identity.must_be_of(&stream);
            let _ = stream.write_all(&line);
        }
    }
}

impl Read for Link {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.identity.must_be_of(&self.reader);
        let read = (&*self.reader).read(to);
        // The end of the connection, or of the descriptor?
        if !read.as_ref().is_ok_and(|bytes| *bytes > 0) {
            self.identity.must_be_of(&self.reader);
        }
        read
    }
}

/// Log lines of plugin and SDK go to standard error, where the other side keeps the last ones.
fn forward_logs() {
    let level = std::env::var("DAOS_KIT_LOG").ok();
    let level = level
        .and_then(|text| text.parse().ok())
        .unwrap_or(tracing_subscriber::filter::LevelFilter::INFO);
    // Fails only if there is a subscriber already.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(std::io::stderr)
        .try_init();
}

fn open(subject: &Subject) -> Result<Loaded, String> {
    let policy = Policy::default();
    let info = PluginFile::inspect(&subject.file, &policy)
        .map_err(|why| format!("{}: {why}", subject.file.display()))?;
    load(&info, &policy).map_err(|e| e.to_string())
}

/// Storage or domain that is ready to be measured.
enum Stage {
    Empty,
    Bdev(bdev::Stage),
    Scm(scm::Stage),
    Fabric(fabric::Stage),
}

impl Stage {
    fn set(loaded: &Loaded, subject: &Subject) -> Result<Self, String> {
        let rig = rig::Rig::new(loaded, subject)?;
        match subject.kind {
            ClassKind::Bdev => bdev::Stage::new(rig).map(Self::Bdev),
            ClassKind::Scm => scm::Stage::new(rig).map(Self::Scm),
            ClassKind::Fabric => fabric::Stage::new(rig).map(Self::Fabric),
        }
    }

    fn measure(&self, what: &Measurement) -> Result<Measured, String> {
        match self {
            Self::Empty => Err("nothing is prepared".to_owned()),
            Self::Bdev(stage) => stage.measure(what),
            Self::Scm(stage) => stage.measure(what),
            Self::Fabric(stage) => stage.measure(what),
        }
    }

    fn clear(self) -> Result<(), String> {
        match self {
            Self::Scm(stage) => stage.give_back(),
            Self::Empty | Self::Bdev(_) | Self::Fabric(_) => Ok(()),
        }
    }
}
