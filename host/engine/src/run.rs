//! The program: start, tell the daemon, serve until a signal, stop.

use crate::config::Options;
use crate::death;
use crate::descriptors;
use crate::devices::Devices;
use crate::engine::Engine;
use crate::error::{StartError, exit};
use crate::upcall::{self, Management};
use daos_plugin_api::host::Board;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

/// Pause before a daemon that did not answer is told again.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Runs an engine until SIGTERM, SIGINT or SIGQUIT; returns the exit code.
///
/// # Errors
/// Why it does not start.
pub fn run(options: &Options) -> Result<u8, StartError> {
    // One thread: it is the admin thread of the plugins and the dRPC server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::failed)?;
    // Before anything is opened, so that an early signal ends the start in order, too.
    let mut signals = runtime.block_on(async { Signals::new() })?;
    descriptors::keep();
    let engine = Engine::start(options)?;
    let served = runtime.block_on(serve(options, &engine, &mut signals));
    let useless = engine.useless_fabric().map(str::to_owned);
    let stopped = engine.stop();
    served?;
    if let Some(why) = useless {
        death::say_why(&why);
        return Ok(exit::TARGET);
    }
    match stopped {
        Ok(()) => {
            tracing::info!("stopped");
            Board::leave_words(b"it stopped in order");
            Ok(exit::OK)
        }
        Err(why) => {
            tracing::error!(why, "stopped after targets had failed");
            death::say_why(&why);
            Ok(exit::TARGET)
        }
    }
}

struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self, StartError> {
        let make = |kind| signal(kind).map_err(StartError::failed);
        Ok(Self([
            make(SignalKind::terminate())?,
            make(SignalKind::interrupt())?,
            make(SignalKind::quit())?,
        ]))
    }

    async fn any(&mut self) {
        let [term, int, quit] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

async fn serve(
    options: &Options,
    engine: &Engine,
    signals: &mut Signals,
) -> Result<(), StartError> {
    let superblock = &engine.formatted().superblock;
    if options.no_server {
        if let Some(label) = &options.pool {
            make_pool(engine, label)?;
        }
        print_ready(options, superblock.rank.unwrap_or(options.index), engine);
        watch(engine, signals, None).await;
        return Ok(());
    }
    let management = Management::new(engine.catalogue().clone());
    let socket = upcall::socket_path(options);
    let server = upcall::listen(
        &socket,
        Arc::clone(&management),
        Arc::clone(engine.layers()),
        Devices {
            all: engine.formatted().devices.clone(),
            targets: options.targets,
        },
        engine.telemetry().clone(),
    )?;
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = tokio::spawn(server.serve(async {
        // A sender that is gone means the same as one that has sent.
        let _ = stopped.await;
    }));
    let result = tokio::select! {
        result = introduce(options, engine, &socket, &management) => result.map(|()| true),
        () = signals.any() => Ok(false),
    };
    if let Ok(true) = result {
        watch(engine, signals, Some(options)).await;
    }
    // The receiver is gone only if the listener has ended already.
    let _ = stop.send(());
    match listener.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the dRPC listener failed"),
        Err(error) => tracing::warn!(%error, "the dRPC listener panicked"),
    }
    result.map(drop)
}

async fn introduce(
    options: &Options,
    engine: &Engine,
    socket: &std::path::Path,
    management: &Management,
) -> Result<(), StartError> {
    upcall::notify_ready(options, engine, socket).await?;
    let rank = management.set_up().await;
    print_ready(options, rank, engine);
    Ok(())
}

/// Makes the pool of the command line unless it is there.
fn make_pool(engine: &Engine, label: &str) -> Result<(), StartError> {
    if engine.catalogue().snapshot().pool_of_label(label).is_ok() {
        return Ok(());
    }
    engine
        .create_pool_of_all(Uuid::new_v4(), label)
        .map_err(|e| StartError::config(format_args!("--pool {label}: {e}")))
}

/// Tells the daemon of targets that fail, each once.
#[derive(Default)]
struct Failures {
    told: BTreeSet<u32>,
}

impl Failures {
    fn look(&mut self, engine: &Engine, options: &Options) {
        for (target, why) in engine.failed_targets() {
            if self.told.insert(target) {
                // Device administration does not wait for a daemon that does not answer.
                tokio::spawn(tell(options.clone(), target, why.to_owned()));
            }
        }
    }
}

/// Tells the daemon that a target has failed, until it hears that.
async fn tell(options: Options, target: u32, why: String) {
    while let Err(error) = upcall::target_failed(&options, target, &why).await {
        tracing::warn!(
            target_number = target,
            "the server does not know that the target has failed: {error}"
        );
        sleep(TELL_AGAIN_AFTER).await;
    }
}

/// Does the admin work until a signal arrives or no target is left. `options`: of an engine with a daemon.
async fn watch(engine: &Engine, signals: &mut Signals, options: Option<&Options>) {
    let mut failures = Failures::default();
    let mut tick = interval(Duration::from_micros(engine.poll_period_us()));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.any() => {
                tracing::info!(requests = engine.requests(), "stopping");
                return;
            }
            _ = tick.tick() => {
                engine.poll_devices();
                if engine.has_dead_target() {
                    tracing::error!("a target has ended; the engine stops so that it is restarted");
                    return;
                }
                if let Some(why) = engine.useless_fabric() {
                    tracing::error!(why, "the engine stops so that it is restarted");
                    return;
                }
                if let Some(options) = options {
                    failures.look(engine, options);
                }
            }
        }
    }
}

/// The line that says the engine serves; in the words of the original.
fn print_ready(options: &Options, rank: u32, engine: &Engine) {
    println!(
        "DAOS I/O server (v{}) process {} started on rank {rank} (out of 1) with {} target xstream set(s), {} helper XS per target, firstcore {}.",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        options.targets,
        options.helpers,
        options.first_core
    );
    if options.no_server {
        println!("uri {}", engine.uri());
    }
}
