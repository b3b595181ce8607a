//! Cases of the control face, for every kind of class, and the preparation of the storage.

use super::case::{Case, Verdict, ensure, failed, refused, skipped, supported};
use super::target::Target;
use crate::abi::Status;
use crate::control::{ClassKind, ClassRequest, DeviceSpec, DeviceState, FormatRequest};
use crate::host::{CallOptions, ControlOp, Instance};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the control cases work on, and the base of the other benches.
pub(super) struct ControlBench {
    pub(super) instance: Instance,
    pub(super) target: Arc<Target>,
    /// Devices of the class config after format; empty for a fabric.
    pub(super) devices: Vec<DeviceSpec>,
}

impl ControlBench {
    /// Formats and mounts the devices of the target.
    pub(super) fn new(instance: Instance, target: Arc<Target>) -> Verdict<Self> {
        let mut bench = Self {
            instance,
            target,
            devices: Vec::new(),
        };
        if bench.target.kind == ClassKind::Fabric {
            return bench.try_domain().map(|()| bench);
        }
        bench.validate(&bench.target.config)?;
        for device in bench.list()? {
            ensure!(
                !matches!(device.state, DeviceState::InUse | DeviceState::Missing),
                "{} cannot be tested: {:?} {}",
                device.address,
                device.state,
                device.detail
            );
            let request = FormatRequest {
                overwrite_foreign: bench.target.overwrite_foreign,
                device,
                nvme_format: false,
                check_only: false,
            };
            unless_unsupported(bench.instance.format(&request, CallOptions::default()))?;
        }
        bench.devices = bench.list()?;
        ensure!(!bench.devices.is_empty(), "the config names no device");
        if bench.target.kind == ClassKind::Scm {
            for device in &bench.devices {
                unless_unsupported(bench.instance.mount(device, CallOptions::default()))?;
            }
        }
        Ok(bench)
    }

    /// Opens the domain once, so that what no case could do without is told once. One whose hardware this machine lacks
    /// is no broken promise.
    fn try_domain(&self) -> Verdict {
        let request = self.target.fabric_request();
        match self.instance.open_fabric(&request, CallOptions::default()) {
            Err(e) if e.status == Status::NOT_FOUND => skipped(e.to_string()),
            result => Ok(result.map(drop)?),
        }
    }

    /// Whether the manifest declares a capability of the class under test; of a fabric, of any of its classes.
    pub(super) fn declares(&self, capability: &str) -> bool {
        let target = &self.target;
        let classes = self.instance.manifest().classes.iter();
        classes
            .filter(|c| c.kind == target.kind)
            .filter(|c| target.kind == ClassKind::Fabric || c.name == target.class)
            .any(|c| c.capabilities.iter().any(|known| known == capability))
    }

    /// Undoes format and mount of SCM.
    pub(super) fn give_back(&self) -> Verdict {
        for device in &self.devices {
            unless_unsupported(self.instance.unmount(device, CallOptions::default()))?;
        }
        Ok(())
    }

    /// Whether the manifest says that contents die with the process that opened them.
    pub(super) fn is_ephemeral(&self) -> bool {
        let mut classes = self.instance.manifest().classes.iter();
        classes.any(|c| c.kind == self.target.kind && c.name == self.target.class && c.ephemeral)
    }

    pub(super) fn list(&self) -> Verdict<Vec<DeviceSpec>> {
        let request = self.target.class_request(&self.target.config);
        Ok(self.instance.devices(&request, CallOptions::default())?)
    }

    fn validate(&self, config: &Map<String, Value>) -> Verdict {
        let request = self.target.class_request(config);
        unless_unsupported(self.instance.validate(&request, CallOptions::default())).map(drop)
    }
}

/// A plugin need not have every control function.
fn unless_unsupported<T>(result: Result<T, crate::sdk::Error>) -> Verdict<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.status == Status::NOT_SUPPORTED => Ok(None),
        Err(e) => Err(e.into()),
    }
}

pub(super) const CASES: &[Case<ControlBench>] = &[
    Case {
        id: "control.manifest",
        name: "the manifest names the plugin, its version and the class under test",
        body: manifest,
    },
    Case {
        id: "control.valid_config",
        name: "the config under test is valid, again and again",
        body: valid_config,
    },
    Case {
        id: "control.wrong_types",
        name: "a config with a key of another type is refused as INVALID and explained",
        body: wrong_types,
    },
    Case {
        id: "control.nonsense",
        name: "a config that makes no sense is refused as INVALID and explained",
        body: nonsense,
    },
    Case {
        id: "control.malformed",
        name: "a malformed request document is refused as INVALID and explained",
        body: malformed,
    },
    Case {
        id: "control.cancel",
        name: "a call that is cancelled comes back soon, as CANCELLED or with its result, and can be made again",
        body: cancel,
    },
    Case {
        id: "control.same_devices",
        name: "devices lists the same devices in the same order each time",
        body: same_devices,
    },
    Case {
        id: "control.scan",
        name: "a scan lists records of the class and changes nothing",
        body: scan,
    },
    Case {
        id: "control.threads",
        name: "threads attach and detach repeatedly and side by side",
        body: threads,
    },
];

fn manifest(bench: &ControlBench) -> Verdict {
    let manifest = bench.instance.manifest();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    ensure!(
        !manifest.name.is_empty() && manifest.name.bytes().all(plain),
        "the name {:?} is not of [a-z0-9-]",
        manifest.name
    );
    ensure!(!manifest.version.is_empty(), "the version is empty");
    let target = &bench.target;
    let mut classes = manifest.classes.iter().filter(|c| c.kind == target.kind);
    // The class of a fabric is a family of providers.
    let class = if target.kind == ClassKind::Fabric {
        classes.next()
    } else {
        classes.find(|c| c.name == target.class)
    };
    let Some(class) = class else {
        return failed(format!("no class {} {}", target.kind, target.class));
    };
    ensure!(
        class.schema.is_null() || class.schema.is_object(),
        "the schema of class {} is no JSON object",
        class.name
    );
    let known = class.schema.get("properties").and_then(Value::as_object);
    if let Some(known) = known {
        for key in target.config.keys() {
            ensure!(
                known.contains_key(key),
                "the schema of class {} lacks the key {key}",
                class.name
            );
        }
    }
    Ok(())
}

fn valid_config(bench: &ControlBench) -> Verdict {
    for _ in 0..3 {
        bench.validate(&bench.target.config)?;
    }
    Ok(())
}

/// The config must be refused by `validate`, or at the latest by `devices`.
fn must_refuse(bench: &ControlBench, config: &Map<String, Value>) -> Verdict {
    let request: ClassRequest = bench.target.class_request(config);
    let shown = Value::Object(config.clone());
    let validated = bench.instance.validate(&request, CallOptions::default());
    match validated {
        Err(e) if e.status != Status::NOT_SUPPORTED => refused(
            &format!("validate of {shown}"),
            Err::<(), _>(e),
            &[Status::INVALID],
        ),
        _ => refused(
            &format!("devices of {shown}, which validate accepted"),
            bench.instance.devices(&request, CallOptions::default()),
            &[Status::INVALID],
        ),
    }
}

fn wrong_types(bench: &ControlBench) -> Verdict {
    let config = &bench.target.config;
    if bench.target.kind == ClassKind::Fabric {
        return skipped("a fabric's keys are read by the host");
    }
    if config.is_empty() {
        return skipped("the class has no keys");
    }
    for key in config.keys() {
        for wrong in [json!({"nonsense": [1]}), json!(-7.5)] {
            let mut config = config.clone();
            config.insert(key.clone(), wrong);
            must_refuse(bench, &config)?;
        }
    }
    Ok(())
}

fn nonsense(bench: &ControlBench) -> Verdict {
    if bench.target.nonsense.is_empty() {
        return skipped("the target names no config that must be refused");
    }
    for config in &bench.target.nonsense {
        must_refuse(bench, config)?;
    }
    Ok(())
}

fn malformed(bench: &ControlBench) -> Verdict {
    let mut asked = 0;
    for op in ControlOp::ALL {
        // A scan takes no request.
        if *op == ControlOp::Scan {
            continue;
        }
        for document in ["", "{", "nonsense", "[1, 2", "{\"class\": \"\\uZZZZ\"}"] {
            let what = format!("{} of {document:?}", op.name());
            let result = bench
                .instance
                .control(*op, document, CallOptions::default());
            match result {
                Err(e) if e.status == Status::NOT_SUPPORTED => {}
                result => {
                    refused(&what, result, &[Status::INVALID])?;
                    asked += 1;
                }
            }
        }
    }
    if asked == 0 {
        return skipped("the control face has no function that takes a document");
    }
    Ok(())
}

/// Longest time from a cancel to the end of the call. Plugins ask every 100 ms.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

/// Makes a call that is cancelled from the start (`at_once`), or as soon as it reports progress; whether the plugin has
/// such a function.
fn cancelled<T>(
    what: &str,
    at_once: bool,
    call: impl FnOnce(CallOptions<'_>) -> Result<T, crate::sdk::Error>,
) -> Verdict<bool> {
    let stop = AtomicBool::new(at_once);
    let since = Mutex::new(at_once.then(Instant::now));
    let progress = |_, _, _: &str| {
        stop.store(true, Ordering::SeqCst);
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get_or_insert_with(Instant::now);
    };
    let result = call(CallOptions {
        cancel: Some(&stop),
        progress: Some(&progress),
        ..CallOptions::default()
    });
    let since = *since.lock().unwrap_or_else(PoisonError::into_inner);
    let took = since.map_or(Duration::ZERO, |since| since.elapsed());
    ensure!(
        took <= CANCEL_LIMIT,
        "{what} comes back {took:?} after it was cancelled"
    );
    match result {
        Ok(_) => Ok(true),
        Err(e) if e.status == Status::NOT_SUPPORTED => Ok(false),
        result => {
            refused(&format!("a cancelled {what}"), result, &[Status::CANCELLED]).map(|()| true)
        }
    }
}

fn cancel(bench: &ControlBench) -> Verdict {
    let instance = &bench.instance;
    let mut has_any = false;
    for at_once in [true, false] {
        has_any |= cancelled("scan", at_once, |options| instance.scan(options))?;
        for device in &bench.devices {
            let request = FormatRequest {
                device: device.clone(),
                overwrite_foreign: bench.target.overwrite_foreign,
                nvme_format: false,
                check_only: false,
            };
            let cut = cancelled("format", at_once, |options| {
                instance.format(&request, options)
            })?;
            has_any |= cut;
            // Whatever is left of it, a format that nobody disturbs makes it whole.
            if cut {
                instance.format(&request, CallOptions::default())?;
            }
            if bench.target.kind == ClassKind::Scm {
                has_any |= cancelled("mount", at_once, |options| instance.mount(device, options))?;
                unless_unsupported(instance.mount(device, CallOptions::default()))?;
            }
        }
    }
    if !has_any {
        return skipped("the control face has no scan, format or mount");
    }
    if bench.target.kind != ClassKind::Fabric {
        let now = bench.list()?;
        ensure!(
            now == bench.devices,
            "after formats that were cancelled and repeated other devices are listed: {now:?}"
        );
    }
    unless_unsupported(instance.scan(CallOptions::default())).map(drop)
}

fn same_devices(bench: &ControlBench) -> Verdict {
    if bench.target.kind == ClassKind::Fabric {
        return skipped("a fabric has no devices");
    }
    let first = bench.list()?;
    ensure!(!first.is_empty(), "the config names no device");
    for (n, device) in first.iter().enumerate() {
        ensure!(
            device.index as usize == n,
            "device {n} has the index {}",
            device.index
        );
        ensure!(
            device.class == bench.target.class,
            "device {n} has the class {:?}",
            device.class
        );
        ensure!(!device.address.is_empty(), "device {n} has no address");
        let twins = first.iter().filter(|d| d.address == device.address);
        ensure!(
            twins.count() == 1,
            "the address {} is listed twice",
            device.address
        );
        ensure!(
            device.state == DeviceState::Present,
            "{} is {:?} after its format: {}",
            device.address,
            device.state,
            device.detail
        );
    }
    for _ in 0..3 {
        ensure!(bench.list()? == first, "another call lists other devices");
    }
    Ok(())
}

fn scan(bench: &ControlBench) -> Verdict {
    let before = match bench.target.kind {
        ClassKind::Fabric => Vec::new(),
        _ => bench.list()?,
    };
    let report = supported("scan", bench.instance.scan(CallOptions::default()))?;
    for record in &report.devices {
        ensure!(
            !record.address.is_empty(),
            "a record of the scan has no address: {record:?}"
        );
        let declared = bench.instance.manifest().classes.iter();
        ensure!(
            declared.clone().any(|c| c.kind == record.kind),
            "the scan lists a {} that the manifest does not declare",
            record.kind
        );
    }
    if bench.target.kind != ClassKind::Fabric {
        ensure!(bench.list()? == before, "the scan changed the devices");
    }
    Ok(())
}

fn threads(bench: &ControlBench) -> Verdict {
    for _ in 0..8 {
        drop(bench.instance.attach_thread()?);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| -> Verdict {
                    for _ in 0..4 {
                        let _attached = bench.instance.attach_thread()?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|w| {
            w.join()
                .unwrap_or_else(|_| failed("a thread panicked while attached"))
        })
    })
}
