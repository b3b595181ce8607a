//! What a format would do, and what stands in its way. Reads only; everything is looked at before
//! the first byte is written.

use super::assess::{content, mounted, superblock, unusable};
use super::content::Content;
use super::layout::{Layout, Tier, layout};
use super::usable::Which;
use crate::burnin::Burnins;
use crate::fabric::{self, Fabric};
use crate::plugins::{Plugins, Trouble};
use crate::state::State;
use daos_plugin_api::control::{ClassKind, DeviceSpec, DeviceState, FormatRequest};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{
    EngineState, Fault, FormatPlan, FormatStorageRequest, FormatTarget, Kind, PlannedTarget,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// A plan: what clients see, and what the execution works on.
pub(crate) struct Plan {
    pub(crate) message: FormatPlan,
    pub(super) engines: Vec<EnginePlan>,
}

impl Plan {
    /// The first thing that stands in the way.
    pub(crate) fn refusal(&self) -> Option<&Fault> {
        let mut refusals = self.message.targets.iter().flat_map(|t| &t.refusals);
        refusals.next()
    }

    /// Indices of the engines.
    pub(crate) fn engines(&self) -> Vec<usize> {
        self.engines.iter().map(|engine| engine.index).collect()
    }
}

/// Plan of one engine.
pub(super) struct EnginePlan {
    pub(super) index: usize,
    pub(super) layout: Layout,
    /// `None` only in a plan that is refused.
    pub(super) fabric: Option<Fabric>,
    pub(super) overwrite_foreign: bool,
    pub(super) nvme_format: bool,
}

/// Plans a format of the engines that the request names, by default all that do not run.
///
/// # Errors
/// When the request names engines that do not exist, or a plugin cannot be asked.
pub(crate) async fn plan(
    plugins: &Plugins,
    state: &State,
    burnins: &Burnins,
    request: &FormatStorageRequest,
) -> Result<Plan, Trouble> {
    let mut message = FormatPlan {
        allowed: true,
        ..FormatPlan::default()
    };
    let mut engines = Vec::new();
    for index in chosen(state, request)? {
        // What is formatted anew may take devices that were not there before.
        let which = match request.reformat {
            true => Which::New,
            false => Which::Recorded,
        };
        let layout = layout(plugins, &state.config, index, which).await?;
        let first = message.targets.len();
        message
            .targets
            .push(plan_scm(plugins, state, request, index, &layout).await?);
        for device in layout.bdev.iter().flat_map(|t| &t.devices) {
            message
                .targets
                .push(plan_bdev(plugins, burnins, request, index, &layout, device).await?);
        }
        if let Some(fault) = running(state, index) {
            message.targets[first].refusals.insert(0, fault);
        }
        let fabric = match fabric::of_engine(plugins, &state.config, index).await {
            Ok(fabric) => match fabric::refusal(plugins, &state.config, index, &fabric).await {
                None => Ok(fabric),
                Some(fault) => Err(fault),
            },
            Err(fault) => Err(*fault),
        };
        let fabric = match fabric {
            Ok(fabric) => Some(fabric),
            Err(fault) if running(state, index).is_none() => {
                message.targets[first].refusals.insert(0, fault);
                None
            }
            Err(_) => None,
        };
        engines.push(EnginePlan {
            fabric,
            index,
            layout,
            overwrite_foreign: request.overwrite_foreign,
            nvme_format: request.nvme_format,
        });
    }
    message.allowed = message.targets.iter().all(|t| t.refusals.is_empty());
    message.plan_id = digest(&message, request.nvme_format);
    Ok(Plan { message, engines })
}

/// Engines to format, in order.
fn chosen(state: &State, request: &FormatStorageRequest) -> Result<Vec<usize>, Trouble> {
    let all = state.engines();
    let wrong = |what: String, remedy: &str| {
        Box::new(Fault::new(
            ResponseStatus::CtlErrConf,
            "server",
            0,
            what,
            "",
            remedy,
        ))
    };
    if all.is_empty() {
        return Err(wrong(
            "the configuration names no servers".to_owned(),
            "add a servers: entry and restart daos_server",
        ));
    }
    if request.engines.is_empty() {
        let idle: Vec<usize> = (0..all.len())
            .filter(|i| running(state, *i).is_none())
            .collect();
        // All run: report that for each, rather than format nothing and call it success.
        return Ok(if idle.is_empty() {
            (0..all.len()).collect()
        } else {
            idle
        });
    }
    let named: BTreeSet<usize> = request.engines.iter().map(|i| *i as usize).collect();
    match named.iter().find(|i| **i >= all.len()) {
        Some(index) => Err(wrong(
            format!("there is no engine {index}"),
            "ask `system query` for the engines",
        )),
        None => Ok(named.into_iter().collect()),
    }
}

fn running(state: &State, index: usize) -> Option<Fault> {
    let engine = state.engine(index);
    let busy = match engine.state {
        EngineState::Starting if engine.pid == 0 => "its storage is being checked",
        EngineState::Starting | EngineState::Ready => "it runs",
        EngineState::Stopping => "it is being stopped",
        EngineState::Restarting => "it is about to be restarted",
        EngineState::Formatting => "it is being formatted",
        _ => return None,
    };
    Some(Fault::new(
        ResponseStatus::CtlErrApp,
        "server",
        0,
        format!("cannot format the storage of engine {index}"),
        busy,
        "stop it first: daos_shell system stop",
    ))
}

async fn plan_scm(
    plugins: &Plugins,
    state: &State,
    request: &FormatStorageRequest,
    index: usize,
    layout: &Layout,
) -> Result<PlannedTarget, Trouble> {
    let device = &layout.scm.devices[0];
    let mut planned = PlannedTarget {
        target: Some(target(
            index,
            Kind::Scm,
            &layout.scm.class,
            layout.scm.plugin.name(),
            device,
        )),
        ..PlannedTarget::default()
    };
    match device.state {
        DeviceState::InUse | DeviceState::Missing => {
            planned
                .refusals
                .push(*unusable(device, ResponseStatus::CtlErrScm));
        }
        DeviceState::Absent if device.detail.is_empty() => {}
        DeviceState::Absent => {
            planned.erases.push(device.detail.clone());
            if !request.overwrite_foreign {
                planned
                    .refusals
                    .push(foreign(device, &device.detail, ResponseStatus::CtlErrScm));
            }
        }
        DeviceState::Present => {
            // An engine that holds the SCM is refused above; mounting shows what it holds.
            if running(state, index).is_none() && mounted(plugins, layout).await? {
                let found = match superblock(plugins, layout).await {
                    Ok(None) => None,
                    Ok(Some(sb)) => Some(format!(
                        "engine {} of system {}, generation {}",
                        sb.uuid, sb.system, sb.generation
                    )),
                    Err(fault) => Some(fault.description()),
                };
                if let Some(found) = found {
                    planned.erases.push(found.clone());
                    if !request.reformat {
                        planned
                            .refusals
                            .push(formatted(device, &found, ResponseStatus::CtlErrScm));
                    }
                }
            }
        }
    }
    Ok(planned)
}

async fn plan_bdev(
    plugins: &Plugins,
    burnins: &Burnins,
    request: &FormatStorageRequest,
    index: usize,
    layout: &Layout,
    device: &DeviceSpec,
) -> Result<PlannedTarget, Trouble> {
    let status = ResponseStatus::CtlErrNvme;
    let tier = layout.bdev.as_ref().expect("planned from its devices");
    let mut planned = PlannedTarget {
        target: Some(target(
            index,
            Kind::Bdev,
            &tier.class,
            tier.plugin.name(),
            device,
        )),
        ..PlannedTarget::default()
    };
    planned.refusals.extend(not_for_engines(device));
    // A burn-in is stopped before the format begins; what is there it has seen.
    let held = burnins.content(&format!("{}:{}", tier.class, device.address));
    if request.nvme_format
        && let Some(fault) = command_refused(plugins, tier, device, held.is_some()).await
    {
        planned.refusals.push(fault);
    }
    let content = match held {
        Some(content) => Ok(content),
        None => content(plugins, tier, device).await,
    };
    let content = match content {
        Ok(content) => content,
        Err(fault) => {
            planned.refusals.push(*fault);
            return Ok(planned);
        }
    };
    if let Some(loss) = content.loss() {
        let ours = matches!(content, Content::Labelled(_) | Content::BadLabel(_));
        if ours && !request.reformat {
            planned.refusals.push(formatted(device, &loss, status));
        }
        if !ours && !request.overwrite_foreign {
            planned.refusals.push(foreign(device, &loss, status));
        }
        planned.erases.push(loss);
    }
    Ok(planned)
}

/// Why engines could not open a device once it is formatted: they run as this server does, and what a helper may do with
/// rights they may not. Root's server gives devices to whoever its engines run as.
fn not_for_engines(device: &DeviceSpec) -> Option<Fault> {
    use nix::unistd::{AccessFlags, access, geteuid};
    let path = Path::new(&device.address);
    // What is not there yet is made as this server's.
    if geteuid().is_root() || !path.is_absolute() || !path.exists() {
        return None;
    }
    let why = access(path, AccessFlags::R_OK | AccessFlags::W_OK).err()?;
    let user = geteuid();
    Some(Fault::new(
        ResponseStatus::CtlErrNvme,
        "storage",
        0,
        format!("engines could not use {} after the format", device.address),
        format!(
            "they run as user {user}, who may not read and write it: {}",
            why.desc()
        ),
        format!(
            "give it to that user, for good by a udev rule (sudo chown {user} {0} lasts until the next restart), or start \
             the server as root with user_name",
            device.address
        ),
    ))
}

fn target(
    index: usize,
    kind: Kind,
    class: &str,
    plugin: &str,
    device: &DeviceSpec,
) -> FormatTarget {
    FormatTarget {
        engine: index as u32,
        kind: kind.into(),
        device_index: device.index,
        class: class.to_owned(),
        plugin: plugin.to_owned(),
        address: device.address.clone(),
        device: String::new(),
        size_bytes: device.size,
        role_bits: 0,
    }
}

/// What a plugin's class says if it can erase its devices by NVMe Format.
const NVME_FORMAT: &str = "nvme_format";
/// Capability of classes that understand `check_only` of a format.
const FORMAT_CHECK: &str = "format_check";

/// Why a device cannot be erased by NVMe Format: its class has no such command, or its plugin says that it would reach
/// further than the device.
async fn command_refused(
    plugins: &Plugins,
    tier: &Tier,
    device: &DeviceSpec,
    burns_in: bool,
) -> Option<Fault> {
    let class = tier.plugin.class(ClassKind::Bdev, &tier.class);
    let can = |capability: &str| {
        class.is_some_and(|class| class.capabilities.iter().any(|name| name == capability))
    };
    if !can(NVME_FORMAT) {
        return Some(without_command(tier, device));
    }
    // A device that is not there, or is somebody's, is refused for that.
    if !can(FORMAT_CHECK) || device.state != DeviceState::Present {
        return None;
    }
    if burns_in {
        return Some(Fault::new(
            ResponseStatus::CtlErrNvme,
            "storage",
            0,
            format!(
                "{} cannot be asked whether NVMe Format may be used",
                device.address
            ),
            "a burn-in has it",
            "stop that first: daos_shell storage burn-in stop --all",
        ));
    }
    let request = FormatRequest {
        device: device.clone(),
        overwrite_foreign: false,
        nvme_format: true,
        check_only: true,
    };
    let checked = plugins.format(&tier.plugin, &request, |_, _, _| ()).await;
    checked.err().map(|(_, fault)| *fault)
}

fn without_command(tier: &Tier, device: &DeviceSpec) -> Fault {
    Fault::new(
        ResponseStatus::CtlErrConf,
        "storage",
        0,
        format!("{} cannot be erased by NVMe Format", device.address),
        format!(
            "plugin {} of bdev_class {} has no such command",
            tier.plugin.name(),
            tier.class
        ),
        "format without --nvme-format",
    )
}

/// Fault number of storage that is formatted already.
const ALREADY_FORMATTED: i32 = 102;

fn formatted(device: &DeviceSpec, found: &str, status: ResponseStatus) -> Fault {
    Fault::new(
        status,
        "storage",
        ALREADY_FORMATTED,
        format!("{} is formatted already", device.address),
        found,
        "add --reformat if its data may be destroyed",
    )
}

fn foreign(device: &DeviceSpec, found: &str, status: ResponseStatus) -> Fault {
    Fault::new(
        status,
        "storage",
        0,
        format!("{} holds content that is not ours", device.address),
        found,
        "check that it is the right device; add --overwrite-foreign if its contents may be destroyed",
    )
}

/// Identifies a plan: equal only if the same would happen to the same contents.
fn digest(plan: &FormatPlan, nvme_format: bool) -> String {
    let mut hash = Sha256::new();
    hash.update([u8::from(nvme_format)]);
    for planned in &plan.targets {
        hash.update(format!(
            "{:?}{:?}{:?}",
            planned.target, planned.erases, planned.refusals
        ));
    }
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
