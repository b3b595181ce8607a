//! Ctrl-C. A command that waits for many hosts still tells what it has heard; anything else ends at once, as does
//! every command at the second time.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Exit status of an interrupted command, as shells have it for SIGINT.
pub(crate) const STATUS: u8 = 130;

/// Waits under way that want to be told.
static WAITING: AtomicUsize = AtomicUsize::new(0);

static TOLD: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// Listens from now on, on a thread of its own, so that questions to the administrator can be interrupted, too.
///
/// # Errors
/// If there is no thread or no signal to be had.
pub(crate) fn listen() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut signal = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?
    };
    let listen = move || {
        runtime.block_on(async move {
            while signal.recv().await.is_some() {
                if WAITING.load(Ordering::SeqCst) == 0 || TOLD.send_replace(true) {
                    std::process::exit(STATUS.into());
                }
                eprintln!("interrupted: telling what is known; once more to end at once");
            }
        });
    };
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(listen)?;
    Ok(())
}

/// Whether a wait was interrupted.
pub(crate) fn happened() -> bool {
    *TOLD.borrow()
}

/// While this lives, Ctrl-C is told instead of ending the program.
pub(crate) struct Wait(watch::Receiver<bool>);

impl Wait {
    pub(crate) fn begin() -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        Self(TOLD.subscribe())
    }

    /// Returns when Ctrl-C is pressed.
    pub(crate) async fn told(&mut self) {
        // The sender is never dropped.
        let _ = self.0.wait_for(|told| *told).await;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}
