//! What an engine leaves for the report of its death: the last lines that it printed, and the board that it shared.

use super::board::{SharedBoard, unspoken};
use daos_telemetry::Lines;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::info;

/// Lines that are kept.
const TAIL: usize = 20;

/// The last lines an engine printed.
#[derive(Clone)]
pub(super) struct Tail {
    lines: Arc<Mutex<Lines>>,
    readers: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// What only our own engine has.
    board: Arc<OnceLock<SharedBoard>>,
}

impl Default for Tail {
    fn default() -> Self {
        // How its life began, long ago, explains no death.
        let lines = Lines::new(TAIL, 0);
        Self {
            lines: Arc::new(Mutex::new(lines)),
            readers: Arc::default(),
            board: Arc::default(),
        }
    }
}

impl Tail {
    /// The engine shares this one.
    pub(super) fn share(&self, board: SharedBoard) -> &SharedBoard {
        self.board.get_or_init(|| board)
    }

    /// Copies lines into the server's log and keeps the last ones.
    pub(super) fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static, engine: usize) {
        let kept = Arc::clone(&self.lines);
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                info!(engine, "{line}");
                let mut kept = kept.lock().unwrap_or_else(|p| p.into_inner());
                kept.push(line);
            }
        });
        self.readers
            .lock()
            .unwrap_or_else(|p| p.into_inner())
            .push(reader);
    }

    /// Waits until everything that the dead process printed has been read. Not for long: a child
    /// of the engine may still hold the pipes.
    pub(super) async fn drained(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(|p| p.into_inner()));
        let all = async {
            for reader in readers {
                // A panic of the reader has nothing to tell here.
                let _ = reader.await;
            }
        };
        // What is late is only missing from the report.
        let _ = timeout(Duration::from_secs(1), all).await;
    }

    /// Those that are kept, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(|p| p.into_inner()).kept()
    }

    /// What our engine says of its end, if it does: which plugin it was in. What it printed is only the second source: a plugin
    /// may have closed the stream.
    pub(super) fn last_words(&self) -> Option<String> {
        let words = self.board.get().and_then(|board| board.read().words);
        words.or_else(|| self.printed_words())
    }

    /// What is known of an engine that says nothing of its end.
    pub(super) fn unspoken(&self) -> Option<String> {
        unspoken(&self.board.get()?.read().calls)
    }

    fn printed_words(&self) -> Option<String> {
        let prefix = "daos_io_server: ";
        let lines = self.lines();
        let words = lines
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix(prefix));
        words.map(str::to_owned)
    }

    /// Whether it says that a region of its memory failed: the next life would end as this one did.
    pub(super) fn memory_failed(&self) -> bool {
        self.last_words().is_some_and(|words| is_of_memory(&words))
    }

    /// Why it does not run, in its own words.
    pub(super) fn last(&self) -> String {
        let words = self.board.get().and_then(|board| board.read().words);
        words
            .or_else(|| self.lines().pop())
            .unwrap_or_else(|| "it printed nothing".to_owned())
    }
}

/// `SIGBUS at 0x7f..: byte 4096 of the region PATH cannot be accessed (sector 8 of /dev/pmem0)`
fn is_of_memory(words: &str) -> bool {
    words.starts_with("SIGBUS at ") && words.contains(" of the region ")
}

/// The plugin of last words: `SIGSEGV inside plugin NAME VERSION, call submit`, `the device queue failed: plugin NAME
/// VERSION has ...`.
pub(super) fn plugin_of(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("plugin ")?;
    let name = rest.split([' ', ',', ':']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{is_of_memory, plugin_of};

    #[test]
    fn last_words_name_the_plugin() {
        for words in [
            "SIGSEGV inside plugin bdev-acme 1.2, call submit",
            "target 0: the device queue failed: plugin bdev-acme 1.2 has not completed a request",
        ] {
            assert_eq!(plugin_of(words).as_deref(), Some("bdev-acme"), "{words}");
        }
        assert_eq!(plugin_of("target 0 panicked"), None);
    }

    #[test]
    fn last_words_tell_a_bad_block_of_memory() {
        let words = "SIGBUS at 0x7f00: byte 4096 of the region /mnt/a cannot be accessed";
        assert!(is_of_memory(words));
        assert_eq!(plugin_of(words), None);
        assert!(!is_of_memory("SIGBUS inside plugin a 1, call flush"));
        assert!(!is_of_memory("target 0 panicked"));
    }
}
