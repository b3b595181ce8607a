//! Which devices a request about firmware means, what is known of each, and who has it.

use super::fault;
use crate::launch::may_start;
use crate::plugins::{Plugins, Trouble};
use crate::scan;
use crate::state::State;
use crate::storage::bdevs;
use daos_loader::{Leases, PluginInfo};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{ClassKind, ClassRequest, DeviceSpec, DeviceState, FirmwareReport};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{
    FirmwareDevice, FirmwareSelection, FirmwareSlot, PluginFault, StorageScanDetailRequest,
};

/// What a plugin's class says if it can do this.
const CAPABILITY: &str = "firmware";

/// A device that a request means.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) plugin: PluginInfo,
    /// Names under which engines and burn-ins may lease it.
    pub(super) leases: Vec<String>,
    pub(super) message: FirmwareDevice,
}

impl Chosen {
    fn new(plugin: &PluginInfo, class: &str, address: &str) -> Self {
        let message = FirmwareDevice {
            class: class.to_owned(),
            plugin: plugin.name().to_owned(),
            address: controller(address),
            ..FirmwareDevice::default()
        };
        let mut chosen = Self {
            plugin: plugin.clone(),
            leases: vec![format!("{class}:{}", message.address)],
            message,
        };
        chosen.also(address);
        chosen
    }

    /// Adds another name of the same device.
    fn also(&mut self, address: &str) {
        let name = format!("{}:{address}", self.message.class);
        if !self.leases.contains(&name) {
            self.leases.push(name);
        }
    }

    /// `CLASS:ADDRESS`.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.message.class, self.message.address)
    }

    fn is(&self, class: &str, address: &str) -> bool {
        self.message.class == class && self.message.address == controller(address)
    }

    /// Takes what a plugin tells of it.
    pub(super) fn take(&mut self, report: FirmwareReport) {
        let message = &mut self.message;
        message.model = report.model.trim().to_owned();
        message.serial = report.serial.trim().to_owned();
        message.revision = report.revision.trim().to_owned();
        message.updatable = report.updatable;
        let slots = report.slots.into_iter().map(|slot| FirmwareSlot {
            number: slot.slot.into(),
            revision: slot.revision.trim().to_owned(),
            read_only: slot.read_only,
            active: slot.active,
            next: slot.next,
        });
        message.slots = slots.collect();
    }

    /// Notes what the class lists of it.
    fn listed(&mut self, spec: &DeviceSpec) {
        match spec.state {
            DeviceState::InUse => self.message.held.clone_from(&spec.detail),
            DeviceState::Missing | DeviceState::Absent => {
                let what = format!("{} is not there", self.name());
                let cause = spec.detail.clone();
                let remedy = "check the device and its name; see `storage scan`";
                self.message.fault = Some(*fault(ResponseStatus::CtlErrNvme, what, cause, remedy));
            }
            DeviceState::Present => {}
        }
    }
}

/// The device that has the firmware: the controller of a namespace (`0000:41:00.0/2`), in its normal form where it is a
/// PCI address. Paths have no such parts.
fn controller(address: &str) -> String {
    let address = match address.split_once('/') {
        Some((controller, _)) if !controller.is_empty() => controller,
        _ => address,
    };
    daos_config::normalise_pci(address).unwrap_or_else(|| address.to_owned())
}

/// Kinds of classes whose devices have firmware.
const KINDS: [ClassKind; 2] = [ClassKind::Bdev, ClassKind::Scm];

/// Which kinds a request means by its word for them.
///
/// # Errors
/// There is no such word.
fn kinds(word: &str) -> Result<&'static [ClassKind], Trouble> {
    match word {
        "" | "all" => Ok(&KINDS),
        "nvme" => Ok(&KINDS[..1]),
        "scm" => Ok(&KINDS[1..]),
        other => Err(fault(
            ResponseStatus::CtlErrConf,
            format!("there are no devices of type {other:?}"),
            "types are nvme, scm and all",
            "correct --type",
        )),
    }
}

fn is_able(plugin: &PluginInfo, class: &str, kind: ClassKind) -> bool {
    let class = plugin.class(kind, class);
    class.is_some_and(|class| class.capabilities.iter().any(|name| name == CAPABILITY))
}

/// The devices of a request, each looked at unless somebody has it, and plugins that could not be asked for theirs.
///
/// # Errors
/// A name is wrong, no device is left, or the configured ones cannot be listed.
pub(super) async fn choose(
    plugins: &Plugins,
    state: &State,
    selection: &FirmwareSelection,
) -> Result<(Vec<Chosen>, Vec<PluginFault>), Trouble> {
    let kinds = kinds(&selection.r#type)?;
    let (configured, trouble) = configured(plugins, state).await;
    let mut faults = Vec::new();
    let mut chosen: Vec<Chosen> = Vec::new();
    if !selection.devices.is_empty() {
        for name in &selection.devices {
            named(plugins, name, &configured, &mut chosen).await?;
        }
    } else if selection.configured {
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        chosen.extend(configured.iter().map(|(_, device)| device.clone()));
    } else {
        found(plugins, kinds, &mut chosen, &mut faults).await;
        // An engine may know its device by a name that no scan shows.
        for (_, device) in configured
            .iter()
            .filter(|_| kinds.contains(&ClassKind::Bdev))
        {
            let (class, address) = (&device.message.class, &device.message.address);
            match chosen.iter_mut().find(|c| c.is(class, address)) {
                Some(known) => known.leases.extend(device.leases.iter().cloned()),
                None => chosen.push(device.clone()),
            }
        }
    }
    let leases = plugins.state_dir().leases();
    let leases = leases.map_err(|e| {
        let status = ResponseStatus::CtlErrApp;
        let remedy = "mend or remove leases.json in state_dir while no server runs";
        fault(
            status,
            "who has which device is not known",
            e.to_string(),
            remedy,
        )
    })?;
    for device in &mut chosen {
        if let Some(holder) = holder(state, &configured, &leases, device) {
            device.message.held = holder;
        }
        look(plugins, device).await;
    }
    told_by_engines(state, &mut chosen).await;
    if selection.filter {
        chosen.retain(|device| matches(&device.message, &selection.model, &selection.revision));
    }
    chosen.sort_by_key(Chosen::name);
    Ok((chosen, faults))
}

/// Devices of the configuration whose plugins know about firmware, with their engines; and why those of an engine cannot
/// be listed.
async fn configured(plugins: &Plugins, state: &State) -> (Vec<(usize, Chosen)>, Option<Trouble>) {
    let (mut all, mut trouble): (Vec<(usize, Chosen)>, _) = (Vec::new(), None);
    for index in 0..state.config.servers.len() {
        let tier = match bdevs(plugins, &state.config, index).await {
            Ok(Some(tier)) if is_able(&tier.plugin, &tier.class, ClassKind::Bdev) => tier,
            Ok(_) => continue,
            Err(fault) => {
                trouble = trouble.or(Some(fault));
                continue;
            }
        };
        for spec in &tier.devices {
            match all
                .iter_mut()
                .find(|(_, c)| c.is(&tier.class, &spec.address))
            {
                Some((_, known)) => known.also(&spec.address),
                None => {
                    let mut device = Chosen::new(&tier.plugin, &tier.class, &spec.address);
                    device.listed(spec);
                    all.push((index, device));
                }
            }
        }
    }
    (all, trouble)
}

/// Adds the device of a name.
async fn named(
    plugins: &Plugins,
    name: &str,
    configured: &[(usize, Chosen)],
    chosen: &mut Vec<Chosen>,
) -> Result<(), Trouble> {
    let known = |class: &str| KINDS.iter().any(|kind| plugins.find(*kind, class).is_ok());
    let (class, address) = match name.split_once(':') {
        Some((class, address)) if known(class) => (Some(class), address),
        _ => (None, name),
    };
    let same = |device: &Chosen| match class {
        Some(class) => device.is(class, address),
        None => device.message.address == controller(address),
    };
    if chosen.iter().any(&same) {
        return Ok(());
    }
    if let Some((_, device)) = configured.iter().find(|(_, device)| same(device)) {
        chosen.push(device.clone());
        return Ok(());
    }
    let class = match class {
        Some(class) => class,
        None if daos_config::normalise_pci(&controller(address)).is_some() => "nvme",
        None => {
            let what = format!("there is no device {name}");
            let cause = "the configuration does not name it, and it has no class in front";
            let remedy = "name it as CLASS:ADDRESS; `firmware query` shows devices";
            return Err(fault(ResponseStatus::CtlErrConf, what, cause, remedy));
        }
    };
    let (plugin, kind) = match plugins.find(ClassKind::Bdev, class) {
        Ok(plugin) => (plugin, ClassKind::Bdev),
        Err(trouble) => match plugins.find(ClassKind::Scm, class) {
            Ok(plugin) => (plugin, ClassKind::Scm),
            Err(_) => return Err(trouble),
        },
    };
    if !is_able(&plugin, class, kind) {
        let what = format!("{name} has no firmware that this host could read or change");
        let cause = format!("plugin {} does not offer it", plugin.name());
        return Err(fault(
            ResponseStatus::CtlErrConf,
            what,
            cause,
            "see `plugin list`",
        ));
    }
    if kind == ClassKind::Scm {
        // Modules are not what a configuration names: the plugin knows them by themselves.
        chosen.push(Chosen::new(&plugin, class, address));
        return Ok(());
    }
    let config = serde_json::Map::from_iter([("bdev_list".to_owned(), vec![address].into())]);
    let request = ClassRequest {
        class: class.to_owned(),
        config,
    };
    let specs = plugins.devices(&plugin, &request).await?;
    let mut device = Chosen::new(&plugin, class, address);
    if let Some(spec) = specs.first() {
        device.listed(spec);
    }
    chosen.push(device);
    Ok(())
}

/// Adds what the plugins find.
async fn found(
    plugins: &Plugins,
    kinds: &[ClassKind],
    chosen: &mut Vec<Chosen>,
    faults: &mut Vec<PluginFault>,
) {
    for plugin in plugins.usable() {
        let mut classes = plugin.manifest.classes.iter();
        if !classes.any(|c| kinds.contains(&c.kind) && is_able(&plugin, &c.name, c.kind)) {
            continue;
        }
        let report = match plugins.scan(&plugin).await {
            Ok(report) => report,
            // Nothing to discover: devices of its class are named in the configuration.
            Err((Status::NOT_SUPPORTED, _)) => continue,
            Err((_, fault)) => {
                faults.push(PluginFault {
                    plugin: plugin.name().to_owned(),
                    fault: Some(*fault),
                });
                continue;
            }
        };
        for record in report.devices {
            if !kinds.contains(&record.kind) || !is_able(&plugin, &record.class, record.kind) {
                continue;
            }
            // A namespace of memory is no device of its own: it has no serial number.
            if record.kind == ClassKind::Scm && record.serial.is_empty() {
                continue;
            }
            let known = chosen
                .iter_mut()
                .find(|c| c.is(&record.class, &record.address));
            if let Some(known) = known {
                known.also(&record.address);
                continue;
            }
            let mut device = Chosen::new(&plugin, &record.class, &record.address);
            device.message.model = record.model.trim().to_owned();
            device.message.serial = record.serial.trim().to_owned();
            device.message.revision = record.firmware.trim().to_owned();
            if record.kind == ClassKind::Bdev {
                // Modules are never free; whether what is on them is used their plugin knows.
                device.message.held = record.in_use.unwrap_or_default();
            }
            chosen.push(device);
        }
    }
}

/// Who has a device: an engine that runs or is about to, or whoever has leased it.
fn holder(
    state: &State,
    configured: &[(usize, Chosen)],
    leases: &Leases,
    device: &Chosen,
) -> Option<String> {
    let same = |other: &Chosen| other.name() == device.name();
    let lease = leases.devices.iter().find(|(name, _)| {
        let parts = name.split_once(':');
        parts.is_some_and(|(class, address)| device.is(class, address))
    });
    if let Some((_, lease)) = lease {
        return Some(lease.holder());
    }
    let mut engines = configured.iter().filter(|(_, other)| same(other));
    let (index, _) = engines.find(|(index, _)| !may_start(state.engine(*index).state))?;
    Some(format!("engine {index}, which runs or is about to"))
}

/// Asks the plugin, if nobody has the device.
async fn look(plugins: &Plugins, device: &mut Chosen) {
    if !device.message.held.is_empty() || device.message.fault.is_some() {
        return;
    }
    match plugins
        .firmware(&device.plugin, &device.message.address)
        .await
    {
        Ok(report) => device.take(report),
        Err((Status::BUSY, fault)) => {
            device.message.held = match fault.cause.as_str() {
                "" => fault.what.clone(),
                cause => cause.to_owned(),
            };
            device.message.fault = Some(*fault);
        }
        Err((_, fault)) => device.message.fault = Some(*fault),
    }
}

/// Fills in what running engines know of their devices.
async fn told_by_engines(state: &State, chosen: &mut [Chosen]) {
    if chosen.iter().all(|device| device.message.held.is_empty()) {
        return;
    }
    for held in scan::of_engines(state, &StorageScanDetailRequest::default()).await {
        let wanted = |c: &&mut Chosen| c.is(&held.class, &held.address);
        let Some(device) = chosen.iter_mut().find(wanted) else {
            continue;
        };
        let fill = |own: &mut String, known: &str| {
            if own.is_empty() {
                known.trim().clone_into(own);
            }
        };
        fill(&mut device.message.model, &held.model);
        fill(&mut device.message.serial, &held.serial);
        fill(&mut device.message.revision, &held.firmware);
    }
}

/// Whether a device is one of those that a filter lets through. What is not known is: it is told why.
pub(crate) fn matches(device: &FirmwareDevice, model: &str, revision: &str) -> bool {
    let is = |wanted: &str, own: &str| {
        wanted.trim().is_empty() || own.is_empty() || wanted.trim() == own
    };
    is(model, &device.model) && is(revision, &device.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_the_firmware_of_their_controller() {
        for (address, expected) in [
            ("0000:41:00.0", "0000:41:00.0"),
            ("0000.DA.00.1/12", "0000:da:00.1"),
            ("41:00.0", "0000:41:00.0"),
            ("fw0/1", "fw0"),
            ("/dev/fw/0", "/dev/fw/0"),
        ] {
            assert_eq!(controller(address), expected, "{address}");
        }
    }

    #[test]
    fn types_of_devices() {
        assert_eq!(kinds("").unwrap(), kinds("all").unwrap());
        assert_eq!(kinds("nvme").unwrap(), [ClassKind::Bdev]);
        assert_eq!(kinds("scm").unwrap(), [ClassKind::Scm]);
        assert!(
            kinds("tape")
                .unwrap_err()
                .to_string()
                .contains("nvme, scm and all")
        );
    }

    #[test]
    fn a_filter_lets_through_what_it_knows_nothing_of() {
        let device = |model: &str, revision: &str| FirmwareDevice {
            model: model.to_owned(),
            revision: revision.to_owned(),
            ..FirmwareDevice::default()
        };
        assert!(matches(&device("M", "1"), "", ""));
        assert!(matches(&device("M", "1"), " M ", "1"));
        assert!(matches(&device("", ""), "M", "1"));
        assert!(!matches(&device("N", "1"), "M", ""));
        assert!(!matches(&device("M", "2"), "", "1"));
    }
}
