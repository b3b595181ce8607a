//! Which devices a burn-in is asked for, what is on them, and what stands in the way.

use crate::launch::may_start;
use crate::plugins::{Plugins, Trouble};
use crate::state::State;
use crate::storage::{Content, Tier, bdevs};
use daos_burnin::Mode;
use daos_burnin::consent::{self, Access};
use daos_loader::PluginInfo;
use daos_plugin_api::control::{ClassKind, ClassRequest, DeviceSpec, DeviceState};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{BurnInAccess, BurnInDevice, BurnInStartRequest, Fault};
use std::path::PathBuf;

/// A device that was asked for.
pub(super) struct Candidate {
    pub(super) plugin: PluginInfo,
    pub(super) spec: DeviceSpec,
    pub(super) access: Access,
    /// What the administrator sees.
    pub(super) message: BurnInDevice,
    /// Of which engine it is.
    engine: Option<usize>,
    ephemeral: bool,
    content: Content,
}

impl Candidate {
    fn new(tier: &Tier, spec: &DeviceSpec, engine: Option<usize>) -> Self {
        Self {
            message: BurnInDevice {
                device: format!("{}:{}", tier.class, spec.address),
                plugin: tier.plugin.name().to_owned(),
                size_bytes: spec.size,
                ..BurnInDevice::default()
            },
            plugin: tier.plugin.clone(),
            spec: spec.clone(),
            access: Access::Auto,
            engine,
            ephemeral: tier.ephemeral,
            content: Content::Blank,
        }
    }

    /// The device, and what a burn-in leaves on it: nothing where it writes, since the ends stay blank.
    pub(super) fn left(&self) -> (String, Content) {
        let content = match self.message.writes {
            true => Content::Blank,
            false => self.content.clone(),
        };
        (self.message.device.clone(), content)
    }

    fn is(&self, name: &str) -> bool {
        name == self.message.device
            || name == self.spec.address
            || same_path(name, &self.spec.address)
            || name
                .strip_prefix(&format!("{}:", self.spec.class))
                .is_some_and(|rest| same_path(rest, &self.spec.address))
    }
}

/// Whether two paths lead to one thing: links below /dev/disk and the like.
fn same_path(a: &str, b: &str) -> bool {
    let real = |path: &str| -> Option<PathBuf> {
        path.starts_with('/')
            .then(|| std::fs::canonicalize(path).ok())?
    };
    real(a).is_some_and(|a| real(b) == Some(a))
}

/// A fault about a device or a request.
pub(super) fn fault(what: impl Into<String>, cause: impl Into<String>, remedy: &str) -> Trouble {
    let status = ResponseStatus::CtlErrNvme;
    Box::new(Fault::new(status, "storage", 0, what, cause, remedy))
}

/// A sentence whose remedy stands behind the last semicolon, as a fault.
fn sentence(what: String, why: &str) -> Trouble {
    let (cause, remedy) = why.rsplit_once("; ").unwrap_or((why, ""));
    fault(what, cause, remedy)
}

/// The block devices of all engines of the configuration, and why those of an engine cannot be listed.
async fn configured(plugins: &Plugins, state: &State) -> (Vec<Candidate>, Option<Trouble>) {
    let (mut found, mut trouble) = (Vec::new(), None);
    for index in 0..state.config.servers.len() {
        match bdevs(plugins, &state.config, index).await {
            Ok(tier) => {
                for tier in tier.iter() {
                    let devices = tier.devices.iter();
                    found.extend(devices.map(|spec| Candidate::new(tier, spec, Some(index))));
                }
            }
            Err(fault) => trouble = trouble.or(Some(fault)),
        }
    }
    (found, trouble)
}

/// Devices of an engine, as leases name them.
pub(super) async fn of_engine(plugins: &Plugins, state: &State, index: usize) -> Vec<String> {
    // What cannot be listed cannot be opened by a burn-in either.
    let tier = bdevs(plugins, &state.config, index).await.ok().flatten();
    let devices = tier.iter().flat_map(|tier| {
        let name = |spec: &DeviceSpec| format!("{}:{}", tier.class, spec.address);
        tier.devices.iter().map(name)
    });
    devices.collect()
}

/// Whether two devices, as leases name them, are one.
pub(super) fn same(a: &str, b: &str) -> bool {
    let parts = |name: &str| name.split_once(':').map(|(_, address)| address.to_owned());
    a == b
        || parts(a)
            .zip(parts(b))
            .is_some_and(|(a, b)| same_path(&a, &b))
}

/// A device that the configuration does not have.
async fn elsewhere(plugins: &Plugins, name: &str) -> Result<Candidate, Trouble> {
    let known = |class: &str| plugins.find(ClassKind::Bdev, class).is_ok();
    let (class, address) = match name.split_once(':') {
        Some((class, address)) if known(class) => (class, address),
        _ if name.starts_with("/dev/") => ("kdev", name),
        // The form of a PCI address.
        _ if name.contains(':') && name.contains('.') => ("nvme", name),
        _ => {
            return Err(fault(
                format!("there is no device {name}"),
                "the configuration does not name it, and it has no class in front",
                "name it as CLASS:ADDRESS; `storage scan` and `storage burn-in start --all --dry-run` show devices",
            ));
        }
    };
    let plugin = plugins.find(ClassKind::Bdev, class)?;
    let config = serde_json::Map::from_iter([("bdev_list".to_owned(), vec![address].into())]);
    let request = ClassRequest {
        class: class.to_owned(),
        config,
    };
    let devices = plugins.devices(&plugin, &request).await?;
    let ephemeral = plugin
        .class(ClassKind::Bdev, class)
        .is_some_and(|c| c.ephemeral);
    let tier = Tier {
        plugin,
        class: class.to_owned(),
        ephemeral,
        devices,
    };
    match tier.devices.first() {
        Some(spec) => Ok(Candidate::new(&tier, spec, None)),
        None => Err(fault(
            format!("there is no device {name}"),
            "",
            "see `storage scan`",
        )),
    }
}

/// The devices of a request, each with what is on it and what stands in the way.
///
/// # Errors
/// A name is wrong, or a plugin cannot be asked.
pub(super) async fn candidates(
    plugins: &Plugins,
    state: &State,
    request: &BurnInStartRequest,
) -> Result<Vec<Candidate>, Trouble> {
    let (mut all, trouble) = configured(plugins, state).await;
    let mut chosen: Vec<Candidate> = Vec::new();
    if request.all {
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        chosen = all;
    } else {
        // An engine's entry that cannot be used does not keep other devices from being tested.
        for name in &request.devices {
            let candidate = match all.iter().position(|c| c.is(name)) {
                Some(position) => all.remove(position),
                None if chosen.iter().any(|c| c.is(name)) => continue,
                None => elsewhere(plugins, name).await?,
            };
            chosen.push(candidate);
        }
    }
    if chosen.is_empty() {
        return Err(fault(
            "no device was named",
            "",
            "name devices, or say --all for those of the configuration (which has none if this is the answer to it)",
        ));
    }
    for destroy in &request.destroy {
        if !chosen.iter().any(|c| c.message.device == destroy.device) {
            return Err(fault(
                format!(
                    "{} is not among the devices of this burn-in",
                    destroy.device
                ),
                "its content was to be destroyed",
                "name exactly the devices that are to be tested",
            ));
        }
    }
    for candidate in &mut chosen {
        if let Err(refusal) = look(plugins, state, request, candidate).await {
            candidate.message.refusal = Some(*refusal);
        }
    }
    Ok(chosen)
}

/// Looks at a device and decides about it.
async fn look(
    plugins: &Plugins,
    state: &State,
    request: &BurnInStartRequest,
    candidate: &mut Candidate,
) -> Result<(), Trouble> {
    let device = candidate.message.device.clone();
    let what = format!("{device} cannot be burnt in");
    if let Some(index) = candidate.engine
        && !may_start(state.engine(index).state)
    {
        let cause = format!("it belongs to engine {index}, which runs or is about to");
        return Err(fault(what, cause, "stop it first: daos_shell system stop"));
    }
    if let Ok(leases) = state.leases.leases()
        && let Some((_, lease)) = leases.devices.iter().find(|(name, _)| same(name, &device))
    {
        let remedy = "wait for its end, or stop it";
        return Err(fault(what, format!("{} has it", lease.holder()), remedy));
    }
    let spec = &candidate.spec;
    let (cause, remedy) = match spec.state {
        DeviceState::InUse => (
            format!("it is in use: {}", spec.detail),
            "free it; --destroy-data does not help against a user",
        ),
        DeviceState::Missing => (
            format!("it is not there: {}", spec.detail),
            "see `storage scan`",
        ),
        DeviceState::Absent => (
            format!("it does not exist yet {}", spec.detail)
                .trim()
                .to_owned(),
            "a format makes it; or make a file of the configured size",
        ),
        DeviceState::Present if !spec.detail.is_empty() => {
            (spec.detail.clone(), "mend the configuration")
        }
        DeviceState::Present => (String::new(), ""),
    };
    if !cause.is_empty() {
        return Err(fault(what, cause, remedy));
    }
    let (holds, read_only) = match candidate.ephemeral {
        true => (None, false),
        false => {
            let found = plugins.inspect(&candidate.plugin, spec).await?;
            candidate.message.size_bytes = found.blocks * u64::from(found.block_size);
            candidate.content = Content::from(&found);
            (found.holds(), found.read_only)
        }
    };
    let destroy = request.destroy.iter().find(|d| d.device == device);
    candidate.access = match request.access() {
        BurnInAccess::ReadOnly => Access::ReadOnly,
        BurnInAccess::Auto if destroy.is_none() => Access::Auto,
        _ => Access::Write {
            destroy: destroy.map(|d| d.holds.clone()),
        },
    };
    candidate.message.holds = holds.clone().unwrap_or_default();
    let mode = consent::decide(&candidate.access, holds.as_deref(), read_only)
        .map_err(|why| sentence(format!("{device} is not written to"), &why))?;
    candidate.message.writes = mode == Mode::ReadWrite;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_same_device() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("disk"), dir.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let name = |path: &std::path::Path| format!("kdev:{}", path.display());
        assert!(same(&name(&file), &name(&link)));
        assert!(same("nvme:0000:81:00.0", "nvme:0000:81:00.0"));
        assert!(!same("nvme:0000:81:00.0", "nvme:0000:82:00.0"));
        assert!(!same(&name(&file), "kdev:/dev/null"));
    }
}
