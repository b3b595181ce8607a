//! The attach information file (`attach:`): how clients without a management service find the engines.
//!
//! Text, as the original's transport reads it: `name SYSTEM`, `size ENGINES`, `all`, then a line
//! `RANK URI` per engine that serves. Replaced as a whole with every change, removed at the end.

use crate::state::State;
use daos_proto::host::EngineState;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tracing::warn;

/// Mode of the file: everybody may be a client.
const MODE: u32 = 0o644;

/// Keeps the file up to date until the server stops.
pub(crate) async fn keep(state: Arc<State>) {
    let Some(path) = state.config.attach.clone() else {
        return;
    };
    let mut changes = state.changes();
    let mut last = String::new();
    loop {
        let text = content(&state);
        if text != last {
            if let Err(error) = daos_media::atomic::write(&path, MODE, text.as_bytes()) {
                warn!("attach: {error}");
            }
            last = text;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Removes the file: nobody serves any more.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = daos_media::atomic::remove(path) {
        warn!("attach: {error}");
    }
}

fn content(state: &State) -> String {
    let engines = state.engines();
    let serving: Vec<_> = engines
        .iter()
        .filter(|e| e.state == EngineState::Ready)
        .collect();
    let mut text = format!("name {}\nsize {}\nall\n", state.config.name, serving.len());
    for engine in serving {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{} {}", engine.rank.unwrap_or(0), engine.uri);
    }
    text
}
