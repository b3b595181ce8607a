//! Health of modules and namespaces: what `ndctl` lists, and, of Intel's modules, what `ipmctl` adds.

use super::inventory::{Health, Inventory, Module, Namespace};
use super::ipmctl::{Dimm, elements};
use super::plan::ailing;
use super::run::list;
use super::tools::{Program, System, Tools};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{HealthRecord, HealthStatus};
use daos_plugin_api::sdk::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Kelvin at 0 degrees Celsius.
const ZERO_CELSIUS: f64 = 273.15;

/// What one reading of all modules and namespaces is good for: a scan asks for their health one after the other, and each
/// `ipmctl` takes a second or more.
const FRESH: Duration = Duration::from_secs(5);

/// Health, by what was read a moment ago or is read now.
#[derive(Default)]
pub struct Readings {
    last: Mutex<Option<Reading>>,
}

struct Reading {
    /// When it had been read, which takes about as long as it is good for.
    at: Instant,
    inventory: Inventory,
    /// What all modules' sensors say; asked for with the first module.
    sensors: Option<Result<Sensors>>,
}

impl Readings {
    /// Health of a device of this machine.
    pub(crate) fn health(&self, address: &str) -> Result<HealthRecord> {
        self.of(&mut System::default(), &Instant::now, address)
    }

    /// Health of a module (`nmem0`) or a namespace (`/dev/pmem0`), by a reading that is at most `FRESH` old by this clock and
    /// knows the device; else by a new one.
    ///
    /// # Errors
    /// NOT_FOUND if there is none of that name, or it tells nothing about its health.
    pub fn of(
        &self,
        tools: &mut dyn Tools,
        clock: &dyn Fn() -> Instant,
        address: &str,
    ) -> Result<HealthRecord> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock();
        let kept = last.take_if(|reading| {
            now.saturating_duration_since(reading.at) <= FRESH && reading.knows(address)
        });
        let is_kept = kept.is_some();
        let reading = last.insert(match kept {
            Some(reading) => reading,
            None => Reading {
                at: now,
                inventory: list(tools, 1)?,
                sensors: None,
            },
        });
        let health = reading.health(tools, address);
        if !is_kept {
            // With the sensors, where they were asked for.
            reading.at = clock();
        }
        health
    }

    /// What was read is not worth anything any more.
    pub fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Reading {
    /// Whether the device was there.
    fn knows(&self, address: &str) -> bool {
        self.namespace(address).is_some() || find(&self.inventory, address).is_some()
    }

    fn namespace(&self, address: &str) -> Option<&Namespace> {
        let regions = self.inventory.regions.iter();
        let mut namespaces = regions.flat_map(|region| region.real());
        namespaces.find(|namespace| namespace.address() == address)
    }

    fn health(&mut self, tools: &mut dyn Tools, address: &str) -> Result<HealthRecord> {
        if let Some(namespace) = self.namespace(address) {
            return Ok(of_namespace(namespace));
        }
        let module = find(&self.inventory, address).ok_or_else(|| {
            Error::new(
                Status::NOT_FOUND,
                format!("there is no persistent memory {address}"),
            )
            .remedy("`daos_server storage scan` lists modules and namespaces")
        })?;
        let sensors = self
            .inventory
            .dimm_of(module)
            .map(|_| &*self.sensors.get_or_insert_with(|| sensors(tools)));
        of_module(&self.inventory, module, sensors)
    }
}

/// The module of a name.
fn find<'a>(inventory: &'a Inventory, address: &str) -> Option<&'a Module> {
    let mut modules = inventory.modules.iter();
    modules.find(|module| module.dev == address)
}

fn of_namespace(namespace: &Namespace) -> HealthRecord {
    let bad = namespace.badblock_count;
    HealthRecord {
        status: match bad {
            0 => HealthStatus::Ok,
            _ => HealthStatus::Warning,
        },
        media_errors: Some(bad),
        warnings: match bad {
            0 => Vec::new(),
            _ => vec![format!(
                "{bad} bad blocks; ndctl list -M -n {} lists them",
                namespace.dev
            )],
        },
        ..HealthRecord::default()
    }
}

fn of_module(
    inventory: &Inventory,
    module: &Module,
    sensors: Option<&Result<Sensors>>,
) -> Result<HealthRecord> {
    let dimm = inventory.dimm_of(module);
    if dimm.is_none() && module.health.is_none() {
        let error = Error::new(
            Status::NOT_FOUND,
            format!("module {} tells nothing about its health", module.dev),
        );
        return Err(match &inventory.dimms_unknown {
            // The rest of it the scan tells, once for all modules.
            Some(unknown) => error.cause(unknown.what.clone()),
            None => error,
        });
    }
    let mut record = HealthRecord::default();
    if let Some(health) = &module.health {
        listed(health, &mut record);
    }
    // What ipmctl does not tell is told; the rest stands.
    record
        .notes
        .extend(inventory.dimms_unknown.iter().map(ToString::to_string));
    if let Some(dimm) = dimm {
        match sensors {
            Some(Ok(sensors)) => sensed(sensors, dimm, &mut record),
            Some(Err(error)) => record
                .notes
                .push(format!("ipmctl tells no sensors: {error}")),
            None => {}
        }
        if dimm.health.starts_with("Noncritical") {
            record
                .warnings
                .push(format!("its health is {}", dimm.told()));
        }
    }
    let wrong = ailing(module).or_else(|| dimm?.ailing());
    record.status = match &wrong {
        Some(_) => HealthStatus::Critical,
        None if record.warnings.is_empty() => HealthStatus::Ok,
        None => HealthStatus::Warning,
    };
    record
        .warnings
        .extend(wrong.map(|(why, remedy)| format!("it {why}; {remedy}")));
    Ok(record)
}

/// What the kernel's driver read of it.
fn listed(health: &Health, record: &mut HealthRecord) {
    record.temperature_kelvin = health.temperature_celsius.map(kelvin);
    record.used_percent = health.life_used_percentage.map(|percent| percent as u32);
    record.spare_percent = health.spares_percentage.map(|percent| percent as u32);
    record.spare_threshold_percent = health.spares_threshold.map(|percent| percent as u32);
    record.unsafe_shutdowns = health.shutdown_count;
    if health.health_state == "non-critical" {
        record
            .warnings
            .push("its health is non-critical".to_owned());
    }
}

fn kelvin(celsius: f64) -> u32 {
    (celsius + ZERO_CELSIUS).round().clamp(0.0, 1000.0) as u32
}

/// What the sensors of modules say, by the module's name and the sensor's.
type Sensors = BTreeMap<String, BTreeMap<String, Sensor>>;

#[derive(Clone, Copy, Default)]
struct Sensor {
    value: Option<u64>,
    threshold: Option<u64>,
}

/// Asks for the sensors of all modules at once.
fn sensors(tools: &mut dyn Tools) -> Result<Sensors> {
    let said = tools.run(Program::Ipmctl, &["show", "-o", "nvmxml", "-a", "-sensor"])?;
    let mut found = Sensors::new();
    elements(&said.out, "Sensor", &mut |of| {
        let sensor = Sensor {
            value: leading(&of("CurrentValue")),
            threshold: leading(&of("AlarmThreshold")),
        };
        let of_module = found.entry(of("DimmID")).or_default();
        of_module.insert(of("Type"), sensor);
    })?;
    Ok(found)
}

/// What its own sensors say.
fn sensed(sensors: &Sensors, dimm: &Dimm, record: &mut HealthRecord) {
    let Some(own) = sensors.get(&dimm.id) else {
        return;
    };
    let value = |name: &str| own.get(name)?.value;
    let threshold = own.get("PercentageRemaining").and_then(|s| s.threshold);
    let percent = |value: Option<u64>| value.and_then(|v| u32::try_from(v).ok());
    let or = |own: &mut Option<u64>, value: Option<u64>| *own = value.or(*own);
    record.temperature_kelvin = value("MediaTemperature")
        .map(|celsius| kelvin(celsius as f64))
        .or(record.temperature_kelvin);
    record.spare_percent = percent(value("PercentageRemaining")).or(record.spare_percent);
    record.spare_threshold_percent = percent(threshold).or(record.spare_threshold_percent);
    or(
        &mut record.power_on_hours,
        value("PowerOnTime").map(|seconds| seconds / 3600),
    );
    or(&mut record.power_cycles, value("PowerCycles"));
    or(
        &mut record.unsafe_shutdowns,
        value("LatchedDirtyShutdownCount"),
    );
    or(&mut record.error_log_entries, value("FwErrorCount"));
    let more = [
        ("controller_celsius", "ControllerTemperature"),
        ("up_seconds", "UpTime"),
    ];
    for (name, sensor) in more {
        record
            .details
            .extend(value(sensor).map(|v| (name.to_owned(), Value::from(v))));
    }
}

/// `30C`, `100%`, `360000s`, `12`.
fn leading(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}
