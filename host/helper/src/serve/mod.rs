//! The helper's side: one plugin, one operation at a time.
//!
//! The main thread executes operations. A second thread reads the connection, so that cancellation
//! and the end of the daemon are noticed while the plugin works or hangs.

mod burnin;
mod confine;
mod device;
mod link;
mod logging;
mod metrics;
mod mount_files;

use crate::error::PluginError;
use crate::operation::Operation;
use crate::protocol::{Event, Request, Start, VERSION};
use daos_loader::{LoadError, PluginInfo, Policy, load};
use daos_plugin_api::abi::Status;
use daos_plugin_api::host::{CallOptions, ControlOp, Instance, InstanceOptions};
use daos_plugin_api::sdk::Error;
use daos_telemetry::{Mask, Masks};
use link::Link;
use metrics::Reporter;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Exit code of a helper that could not begin to serve.
pub const EXIT_UNUSABLE: u8 = 2;

/// What a process of a plugin believes of what the daemon tells it.
pub trait Authority {
    /// What is loaded, when the daemon says `start`.
    fn subject(&self, start: Start) -> Subject;

    /// An operation as it is carried out. Called on the thread that does so, right before.
    ///
    /// # Errors
    /// It is not carried out.
    fn admit(&self, instance: &Instance, operation: Operation) -> Result<Operation, Error>;
}

/// A plugin to load.
#[derive(Debug)]
pub struct Subject {
    /// As it was inspected.
    pub plugin: PluginInfo,
    /// What it must satisfy.
    pub policy: Policy,
    /// Its settings.
    pub settings: Map<String, Value>,
}

/// Believes the daemon, whose rights it has.
struct Daemon;

impl Authority for Daemon {
    fn subject(&self, start: Start) -> Subject {
        Subject {
            plugin: start.plugin,
            policy: Policy {
                allow: start.allow,
                ..Policy::default()
            },
            settings: start.settings,
        }
    }

    fn admit(&self, _: &Instance, operation: Operation) -> Result<Operation, Error> {
        Ok(operation)
    }
}

/// Serves the daemon that started this process, over its standard input. Returns the exit code.
pub fn run(plugin: &str, parent: u32) -> u8 {
    match connect(parent) {
        Ok(stream) => serve(plugin, stream, &Daemon),
        Err(message) => unusable(&message),
    }
}

/// Likewise, but believes only what `authority` does. The process may have rights that its daemon lacks: `authority` sees
/// to it that they are used for nothing else than what it admits.
pub fn run_with(plugin: &str, parent: u32, authority: &dyn Authority) -> u8 {
    match confine::enter(parent) {
        Ok(stream) => serve(plugin, stream, authority),
        Err(message) => unusable(&message),
    }
}

fn unusable(message: &str) -> u8 {
    eprintln!("daos_server_helper: {message}");
    EXIT_UNUSABLE
}

/// Ties this process to the one that started it, for other work than serving a daemon, and gives the
/// connection to it.
///
/// # Errors
/// A sentence: it runs setuid, its parent is gone, or its standard input is no connection.
pub fn connect(parent: u32) -> Result<std::os::unix::net::UnixStream, String> {
    confine::refuse_rights()?;
    confine::enter(parent)
}

/// What the reading thread passes to the main thread.
enum Work {
    Start(Box<Start>),
    Call(u64, Duration, Operation),
    Stop,
}

/// Which call is to stop.
#[derive(Default)]
struct Cancellation {
    current: AtomicU64,
    wanted: AtomicBool,
    /// The call that was cancelled last. It may not have begun when that is read.
    last: AtomicU64,
}

fn serve(plugin: &str, stream: std::os::unix::net::UnixStream, authority: &dyn Authority) -> u8 {
    // At the end of a session, a service or the machine every process gets one of them. A helper that died of it in the middle
    // of a scan would make its plugin look broken. The daemon decides: it ends its helpers, or ends, and so do connections.
    daos_loader::outlive_signals();
    let cancellation = Arc::new(Cancellation::default());
    let masks = Masks::new(Mask::new(LevelFilter::INFO));
    let (sender, work) = channel();
    let link = match Link::new(stream) {
        Ok(link) => {
            let (cancellation, masks) = (Arc::clone(&cancellation), masks.clone());
            let from = link.clone();
            std::thread::spawn(move || read(&from, &sender, &cancellation, &masks));
            link
        }
        Err(e) => {
            eprintln!("daos_server_helper: cannot use the connection: {e}");
            return EXIT_UNUSABLE;
        }
    };
    let Ok(Work::Start(start)) = work.recv() else {
        eprintln!("daos_server_helper: the first message was not `start`");
        return EXIT_UNUSABLE;
    };
    logging::forward(&link, &masks);
    // A level that is none is the daemon's mistake and no reason not to serve.
    let _ = masks.overlay(&start.log_level);
    let reporter = Reporter::start(&link);
    link.send(&Event::Loading);
    match begin(plugin, *start, authority, &masks, &reporter) {
        Ok(instance) => {
            link.send(&Event::Ready);
            work_off(&instance, authority, &link, &work, &cancellation, &reporter);
            0
        }
        Err(event) => {
            link.send(&event);
            EXIT_UNUSABLE
        }
    }
}

fn read(
    link: &Link,
    work: &std::sync::mpsc::Sender<Work>,
    cancellation: &Cancellation,
    masks: &Masks,
) {
    while let Some(request) = link.receive::<Request>() {
        let work_item = match request {
            Request::Start(start) => Work::Start(start),
            Request::Call {
                id,
                deadline_ms,
                operation,
            } => Work::Call(id, Duration::from_millis(deadline_ms), operation),
            Request::Stop => Work::Stop,
            Request::LogLevel { level } => {
                let _ = masks.overlay(&level);
                continue;
            }
            Request::Cancel { id } => {
                cancellation.last.store(id, Ordering::SeqCst);
                if cancellation.current.load(Ordering::SeqCst) == id {
                    cancellation.wanted.store(true, Ordering::SeqCst);
                }
                continue;
            }
        };
        if work.send(work_item).is_err() {
            return;
        }
    }
    // The daemon is gone, or has given this process up; whatever the plugin is doing ends here.
    confine::end_everything();
}

/// Loads the plugin and makes its instance.
fn begin(
    plugin: &str,
    start: Start,
    authority: &dyn Authority,
    masks: &Masks,
    reporter: &Reporter,
) -> Result<Instance, Event> {
    let refused = |message: String| Event::Refused { message };
    if start.protocol != VERSION || start.plugin.name() != plugin {
        return Err(refused(format!(
            "this helper was started for plugin {plugin} and protocol {VERSION}, but asked for \
             plugin {} and protocol {}; install daemon and helper of one version",
            start.plugin.name(),
            start.protocol
        )));
    }
    let subject = authority.subject(start);
    let loaded =
        load(&subject.plugin, &subject.policy).map_err(|e: LoadError| refused(e.to_string()))?;
    let mut options = if loaded.info.is_built_in() {
        InstanceOptions::built_in()
    } else {
        InstanceOptions::loaded()
    };
    options.log = Some(masks.plugin_log(plugin));
    options.metrics = Some(Arc::clone(&reporter.keeper) as _);
    Instance::create(loaded.table, options.settings(subject.settings))
        .map_err(|e| Event::Failed { error: e.into() })
}

fn work_off(
    instance: &Instance,
    authority: &dyn Authority,
    link: &Link,
    work: &Receiver<Work>,
    cancellation: &Cancellation,
    reporter: &Reporter,
) {
    while let Ok(Work::Call(id, deadline, operation)) = work.recv() {
        cancellation.wanted.store(false, Ordering::SeqCst);
        cancellation.current.store(id, Ordering::SeqCst);
        if cancellation.last.load(Ordering::SeqCst) == id {
            cancellation.wanted.store(true, Ordering::SeqCst);
        }
        let progress = |done: u64, total: u64, what: &str| {
            link.send(&Event::Progress {
                id,
                done,
                total,
                what: what.to_owned(),
            });
        };
        let options = CallOptions {
            deadline: Some(deadline),
            cancel: Some(&cancellation.wanted),
            progress: Some(&progress),
        };
        let report = |document: Value| link.send(&Event::Report { id, document });
        let result = authority
            .admit(instance, operation)
            .and_then(|operation| execute(instance, operation, options, &report));
        cancellation.current.store(0, Ordering::SeqCst);
        reporter.tell();
        let event = match result {
            Ok(answer) => Event::Done { id, answer },
            Err(error) => Event::Error {
                id,
                error: PluginError::from(error),
            },
        };
        link.answer(id, &event);
    }
}

fn execute(
    instance: &Instance,
    operation: Operation,
    options: CallOptions<'_>,
    report: &(dyn Fn(Value) + Sync),
) -> Result<Value, Error> {
    let document = |op: ControlOp, request: &Value| {
        let answer = instance.control(op, &request.to_string(), options)?;
        serde_json::from_str(&answer).map_err(|e| {
            Error::new(
                Status::INTERNAL,
                format!("the plugin's answer to {} is malformed", op.name()),
            )
            .cause(e.to_string())
            .remedy("report this to the plugin's vendor")
        })
    };
    match operation {
        Operation::Validate(request) => instance.validate(&request, options).map(|()| Value::Null),
        Operation::Scan => encode(&instance.scan(options)?),
        Operation::Prepare(request) => document(ControlOp::Prepare, &request.into()),
        Operation::Release(request) => document(ControlOp::Release, &request.into()),
        Operation::Devices(request) => encode(&instance.devices(&request, options)?),
        Operation::Format(request) => encode(&instance.format(&request, options)?),
        Operation::Mount(device) => instance.mount(&device, options).map(|()| Value::Null),
        Operation::Unmount(device) => instance.unmount(&device, options).map(|()| Value::Null),
        Operation::Health(device) => document(ControlOp::Health, &encode(&device)?),
        Operation::Firmware(request) => document(ControlOp::Firmware, &request.into()),
        Operation::Quiesce(device) => encode(&instance.quiesce(&device, options)?),
        Operation::InspectDevice(device) => encode(&device::inspect(instance, &device, options)?),
        Operation::WriteLabel { device, label } => {
            encode(&device::write_label(instance, &device, &label, options)?)
        }
        Operation::ClearLabel(device) => encode(&device::clear_label(instance, &device, options)?),
        Operation::ReadMountFile { device, file } => encode(&mount_files::read(&device, file)?),
        Operation::WriteMountFile {
            device,
            file,
            content,
        } => encode(&mount_files::write(&device, file, &content)?),
        Operation::RemoveMountFile { device, file } => encode(&mount_files::remove(&device, file)?),
        Operation::BurnIn(request) => {
            burnin::run(instance, &request, options, report);
            Ok(Value::Null)
        }
    }
}

fn encode(answer: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(answer)
        .map_err(|e| Error::new(Status::INTERNAL, "cannot encode the answer").cause(e.to_string()))
}
