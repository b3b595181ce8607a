//! Responders: processes whose endpoints answer pings, so that the way to this host can be measured also while no
//! engine runs. Each is a process of our engine program that opens the fabric and nothing else; it is bounded in
//! time, their number is, and none outlives the client that asked for it.

use crate::engine::{own_program, responder, spawn};
use crate::fabric::{self, Fabric};
use crate::plugins::{Plugins, Trouble};
use crate::state::State;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{Fault, OpenResponderEvent, OpenResponderRequest};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::info;

/// Responders of this host at once.
const MOST: usize = 4;
/// Longest time of one, in seconds.
const LONGEST: u32 = 60;
/// How long one may take to open its endpoint.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long one may take to close it.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes of its last words that are told.
const WORDS: usize = 4096;

/// What the client of a responder sees.
pub(crate) type Events = ReceiverStream<Result<OpenResponderEvent, Status>>;

/// The responders of this host.
pub(crate) struct Responders {
    places: Arc<Semaphore>,
}

impl Responders {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST)),
        }
    }

    /// Opens one. It ends when the stream is dropped, when its time is over, or with the server.
    ///
    /// # Errors
    /// There are too many, the provider is not there, or its endpoint cannot be opened.
    pub(crate) async fn open(
        &self,
        plugins: &Plugins,
        state: &Arc<State>,
        request: &OpenResponderRequest,
    ) -> Result<Events, Trouble> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            fault(
                format!("{MOST} responders are open on this host"),
                "each serves a `network ping`",
                "try again when one of those has ended",
            )
        })?;
        let seconds = match request.seconds {
            0 => LONGEST,
            seconds => seconds.min(LONGEST),
        };
        let chosen = fabric::for_ping(plugins, &state.config, &request.provider).await;
        plugins.rest().await;
        let fabric = chosen?;
        let (child, uri) = start(state, &fabric, seconds).await?;
        let selection = fabric.selection;
        let pid = child.id().unwrap_or(0);
        info!(
            pid,
            provider = selection.provider,
            interface = selection.interface.as_deref().unwrap_or("-"),
            seconds,
            "responder opened"
        );
        let (events, stream) = mpsc::channel(2);
        // There is room: it is the first.
        let _ = events.try_send(Ok(OpenResponderEvent {
            uri,
            provider: selection.provider,
            interface: selection.interface.unwrap_or_default(),
            seconds,
            pid,
        }));
        tokio::spawn(keep(child, events, state.stopping(), seconds, place));
        Ok(ReceiverStream::new(stream))
    }
}

/// Starts the process and waits for its address.
async fn start(state: &State, fabric: &Fabric, seconds: u32) -> Result<(Child, String), Trouble> {
    let provider = &fabric.selection.provider;
    let what = || format!("no responder for provider {provider} can be opened");
    let config = &state.config;
    let program = own_program().map_err(|error| fault(what(), &format!("{error:#}"), ""))?;
    let (arguments, environment) =
        responder(config, &fabric.selection, fabric.plugin_file(), seconds);
    let owner = state.owner.as_ref();
    let mut child = spawn(
        &program,
        &arguments,
        &environment,
        owner,
        Stdio::piped(),
        None,
    )
    .map_err(|error| fault(what(), &format!("{}: {error}", program.display()), ""))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout);
        // Whatever keeps it from telling its address is asked for below.
        let _ = timeout(READY_WITHIN, stdout.read_line(&mut line)).await;
    }
    match line.trim().strip_prefix("uri ") {
        Some(uri) => Ok((child, uri.to_owned())),
        None => {
            let cause = last_words(&mut child).await;
            let remedy = "see `daos_shell network scan -p all` for what works on this host";
            Err(fault(what(), &cause, remedy))
        }
    }
}

/// Ends a process that does not do what it should, and what it said last.
async fn last_words(child: &mut Child) -> String {
    let Ok(ended) = timeout(GRACE, child.wait()).await else {
        // What does not end by itself is killed; it has ended meanwhile if that fails.
        let _ = child.start_kill();
        return format!(
            "it did not open its endpoint within {} s",
            READY_WITHIN.as_secs()
        );
    };
    let mut words = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = stderr.take(WORDS as u64);
        let _ = timeout(GRACE, stderr.read_to_end(&mut words)).await;
    }
    let text = String::from_utf8_lossy(&words);
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    match (last, ended) {
        (Some(last), _) => last.trim_start_matches("daos_io_server: ").to_owned(),
        (None, Ok(status)) => format!("its process ended without a word ({status})"),
        (None, Err(error)) => format!("its process cannot be waited for: {error}"),
    }
}

/// Waits for whatever ends the responder first.
async fn keep(
    mut child: Child,
    events: mpsc::Sender<Result<OpenResponderEvent, Status>>,
    mut stopping: tokio::sync::watch::Receiver<bool>,
    seconds: u32,
    _place: OwnedSemaphorePermit,
) {
    let limit = Duration::from_secs(seconds.into());
    // Waiting for a process closes its input, which would end it.
    let input = child.stdin.take();
    let told = tokio::select! {
        () = events.closed() => None,
        _ = stopping.wait_for(|stop| *stop) => Some(("the server stops", "")),
        () = tokio::time::sleep(limit) => Some(("its time is over", "measure fewer pings at once (--count)")),
        _ = child.wait() => Some(("its process has ended", "try again; see the server's log")),
    };
    // Its endpoint is closed in order, which shared memory needs, if it can.
    drop(input);
    if timeout(GRACE, child.wait()).await.is_err() {
        // It has ended meanwhile if this fails.
        let _ = child.kill().await;
    }
    if let Some((cause, remedy)) = told {
        let gone = fault("the responder is gone".to_owned(), cause, remedy);
        // The client may have gone as well.
        let _ = events.try_send(Err(gone.to_status()));
    }
}

fn fault(what: String, cause: &str, remedy: &str) -> Trouble {
    Box::new(Fault::new(
        ResponseStatus::CtlErrApp,
        "fabric",
        0,
        what,
        cause,
        remedy,
    ))
}
