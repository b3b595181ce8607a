//! Where the server's own log goes.

use anyhow::Context;
use daos_config::{Config, ControlLogMask};
use daos_telemetry::{Mask, Masks};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait for the disk; the ones after that are dropped.
const BUFFERED: usize = 8192;

/// A log file whose disk may be full: lines are lost then, and the server goes on. It says so on standard error, and in the
/// file when there is room again.
struct Patient<W> {
    file: W,
    path: PathBuf,
    lost: u64,
}

impl<W: Write> Patient<W> {
    fn new(file: W, path: PathBuf) -> Self {
        Self {
            file,
            path,
            lost: 0,
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.lost > 0 {
            // A part of the line that failed may stand there.
            let gap = format!(
                "\n{} line(s) are missing here: they could not be written\n",
                self.lost
            );
            self.file.write_all(gap.as_bytes())?;
            self.lost = 0;
        }
        self.file.write_all(line)
    }
}

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.try_write(line) {
            if self.lost == 0 {
                // Whoever has no standard error either cannot be told.
                let _ = writeln!(
                    io::stderr(),
                    "WARN: control_log_file {} cannot be written, lines are lost until it can be: {error}",
                    self.path.display()
                );
            }
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Starts logging as the configuration says. The guard flushes what is buffered when dropped; the mask can be changed
/// from then on.
///
/// # Errors
/// When `control_log_file` cannot be opened.
pub(crate) fn start(
    config: &Config,
    debug: bool,
    json: bool,
) -> anyhow::Result<(Option<WorkerGuard>, Masks)> {
    let masks = Masks::new(mask(config, debug));
    let (writer, guard) = match &config.control_log_file {
        None => (BoxMakeWriter::new(std::io::stdout), None),
        Some(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .with_context(|| format!("cannot open control_log_file {}", path.display()))?;
            let (writer, guard) = NonBlockingBuilder::default()
                // Room for these lines is taken at once.
                .buffered_lines_limit(BUFFERED)
                .finish(Patient::new(file, path.clone()));
            (BoxMakeWriter::new(writer), Some(guard))
        }
    };
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_writer(writer);
    let filtered = match json || config.control_log_json {
        true => layer.json().with_filter(masks.filter()).boxed(),
        false => layer.with_ansi(false).with_filter(masks.filter()).boxed(),
    };
    tracing_subscriber::registry().with(filtered).init();
    Ok((guard, masks))
}

/// What the configuration wants to be logged here, plugins with a level of their own included.
fn mask(config: &Config, debug: bool) -> Mask {
    let level = match &config.control_log_mask {
        _ if debug => LevelFilter::DEBUG,
        ControlLogMask::Disabled => LevelFilter::OFF,
        ControlLogMask::Error => LevelFilter::ERROR,
        ControlLogMask::Warn => LevelFilter::WARN,
        ControlLogMask::Info => LevelFilter::INFO,
        ControlLogMask::Debug => LevelFilter::DEBUG,
        ControlLogMask::Trace => LevelFilter::TRACE,
    };
    let mut mask = Mask::new(level);
    // Libraries below the control plane say little of use before `debug`, and far too much then.
    for library in ["h2", "hyper", "hyper_util", "tower"] {
        mask.set(library, level.min(LevelFilter::WARN));
    }
    for (name, plugin) in config.plugins.iter().flatten() {
        let named = plugin.log_mask.as_ref().map(|l| format!("{name}={l}"));
        // The levels of the configuration have been checked.
        if let Some(Ok(more)) = named.map(|text| mask.overlaid(&text)) {
            mask = more;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk {
        text: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match bytes.len().min(self.room) {
                0 => Err(io::Error::from(io::ErrorKind::StorageFull)),
                fits => {
                    self.room -= fits;
                    self.text.extend_from_slice(&bytes[..fits]);
                    Ok(fits)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_how_many() {
        let disk = Disk {
            text: Vec::new(),
            room: 9,
        };
        let mut log = Patient::new(disk, "/log".into());
        for line in ["first\n", "second\n", "third\n"] {
            assert_eq!(log.write(line.as_bytes()).unwrap(), line.len());
        }
        log.file.room = 1000;
        log.write_all(b"fourth\n").unwrap();
        log.write_all(b"fifth\n").unwrap();
        let text = String::from_utf8(log.file.text).unwrap();
        assert_eq!(
            text,
            "first\nsec\n2 line(s) are missing here: they could not be written\nfourth\nfifth\n"
        );
    }
}
