//! Engines for a server whose configuration names none: one per NUMA node, planned as `config generate` plans them.
//!
//! The plan is made once, when the server starts, and has a hash. A format needs somebody to agree to that hash; then the
//! plan is kept in the state directory, and counts at every later start, whatever the machine has become meanwhile.

use super::{gather, plan, render};
use crate::cli::GenerateArgs;
use crate::plugins::Plugins;
use anyhow::{Context, bail};
use daos_config::{Config, Diagnostic, Overrides};
use daos_media::atomic;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{Fault, ProposedEngines};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{info, warn};

/// File of the state directory with the plan that somebody has agreed to.
const FILE: &str = "engines.yml";
/// Its mode.
const MODE: u32 = 0o644;
/// More than any plan has.
const MAX_BYTES: u64 = 1 << 20;
/// Distance between the fabric ports of two engines.
const PORT_STEP: u16 = 1000;

/// Engines that were planned, not configured.
#[derive(Debug)]
pub(crate) struct Proposal {
    /// The `servers:` of the plan with the reasons, YAML.
    yaml: String,
    hash: String,
    file: PathBuf,
    accepted: AtomicBool,
}

/// What became of a configuration without engines.
#[derive(Debug)]
pub(crate) enum Engines {
    /// It names them.
    Configured,
    /// They are planned.
    Planned(Proposal),
    /// None can be planned; why.
    None(String),
}

/// Gives engines to a configuration that names none.
///
/// # Errors
/// A plan was agreed to, and goes no more with the configuration.
pub(crate) async fn fill(config: &mut Config, plugins: &Plugins) -> anyhow::Result<Engines> {
    if !config.servers.is_empty() {
        return Ok(Engines::Configured);
    }
    let file = plugins.state_dir().path().join(FILE);
    let kept = atomic::read(&file, MAX_BYTES).with_context(|| {
        format!(
            "cannot read the engines that were agreed to, {}",
            file.display()
        )
    })?;
    if let Some(bytes) = kept {
        let yaml = String::from_utf8_lossy(&bytes).into_owned();
        *config = merged(config, plugins, &yaml).with_context(|| {
            format!(
                "the engines in {} were agreed to, and do not go with the configuration any more; correct that, or write \
                 `servers:`, or remove the file for a new plan",
                file.display()
            )
        })?;
        let hash = hash(config);
        info!(
            "{} engine(s) as agreed to (plan {hash}), from {}",
            config.servers.len(),
            file.display()
        );
        return Ok(Engines::Planned(Proposal {
            yaml,
            hash,
            file,
            accepted: AtomicBool::new(true),
        }));
    }
    info!("the configuration names no servers: engines are planned from what this machine has");
    let planned = propose(config, plugins).await;
    plugins.rest().await;
    match planned {
        Ok((planned, yaml)) => {
            *config = planned;
            let hash = hash(config);
            info!(
                "{} engine(s) are planned, plan {hash}:\n{}",
                config.servers.len(),
                yaml.trim_end()
            );
            Ok(Engines::Planned(Proposal {
                yaml,
                hash,
                file,
                accepted: AtomicBool::new(false),
            }))
        }
        Err(error) => {
            let why = format!("{error:#}");
            warn!("no engine can be planned: {why}");
            Ok(Engines::None(why))
        }
    }
}

/// Plans, and puts the plan into the configuration.
async fn propose(config: &Config, plugins: &Plugins) -> anyhow::Result<(Config, String)> {
    let mut found = gather::gather(plugins).await;
    restrict(config, &mut found);
    let args = wishes(config, &found);
    let mut plan = plan::plan(plugins, config, &args, &found)?;
    if let Some(first) = config.fabric_iface_port {
        for (engine, port) in plan
            .engines
            .iter_mut()
            .zip((first..).step_by(PORT_STEP.into()))
        {
            engine.fabric_iface_port = port;
        }
    }
    let yaml = render::servers(&plan, config.provider.is_none());
    Ok((merged(config, plugins, &yaml)?, yaml))
}

/// Leaves out what the configuration excludes.
fn restrict(config: &Config, found: &mut gather::Found) {
    found.bdevs.retain(|device| {
        let address = &device.address;
        let included = config.bdev_include.is_empty() || config.bdev_include.contains(address);
        device.class != "nvme" || included && !config.bdev_exclude.contains(address)
    });
    let named = config.fabric_ifaces.iter().chain(&config.fabric_iface);
    let named: Vec<&String> = named.collect();
    if !named.is_empty() {
        found
            .offers
            .retain(|offer| named.contains(&&offer.interface));
    }
}

/// The options of `config generate` that say what the configuration says.
fn wishes(config: &Config, found: &gather::Found) -> GenerateArgs {
    // Who may not mount has no use for the default.
    let is_default = config.scm_mount_path == Config::default().scm_mount_path;
    GenerateArgs {
        net_provider: config.provider.clone(),
        scm_mount_path: Some(match is_default {
            true => found.scm_base.clone(),
            false => config.scm_mount_path.clone(),
        }),
        ..GenerateArgs::default()
    }
}

/// The configuration with these `servers:`, checked as if they stood in its file.
fn merged(config: &Config, plugins: &Plugins, servers: &str) -> anyhow::Result<Config> {
    let text = config.to_yaml()? + servers;
    let loaded = Config::parse(&text, "the planned engines", &Overrides::default())
        .map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let wrong: Vec<String> = plugins
        .check_classes(&loaded.config)
        .iter()
        .filter(|finding| finding.is_error())
        .map(Diagnostic::to_string)
        .collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    if loaded.config.servers.is_empty() {
        bail!("no engine stands there");
    }
    Ok(loaded.config)
}

/// Identifies engines by all their keys.
fn hash(config: &Config) -> String {
    let mut hash = Sha256::new();
    // Every configuration can be told as JSON; what could not would get a hash of its own.
    hash.update(serde_json::to_string(&config.servers).unwrap_or_default());
    let bytes = hash.finalize();
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Proposal {
    /// Whether somebody has agreed to it, now or before an earlier format.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// The proposal as the control plane tells it.
    pub(crate) fn to_message(&self) -> ProposedEngines {
        ProposedEngines {
            hash: self.hash.clone(),
            yaml: self.yaml.clone(),
            accepted: self.is_accepted(),
        }
    }

    /// Why a format with the agreement to the plan `agreed` (empty: to none) is refused; none if it is not.
    pub(crate) fn refusal(&self, agreed: &str) -> Option<Fault> {
        let fault = |what: String, cause: String| {
            let remedy = format!(
                "look at it with `daos_shell storage format --dry-run`, then format with --accept-plan {}; or write `servers:` \
                 into the configuration (`daos_server config generate` prints some) and start again",
                self.hash
            );
            Fault::new(ResponseStatus::CtlErrConf, "server", 0, what, cause, remedy)
        };
        if agreed.is_empty() {
            return (!self.is_accepted()).then(|| {
                fault(
                    "nobody has agreed to the engines of this node".to_owned(),
                    format!(
                        "the configuration names none, and they were planned (plan {})",
                        self.hash
                    ),
                )
            });
        }
        (agreed != self.hash).then(|| {
            fault(
                format!("the engines of this node are not those of plan {agreed}"),
                format!("they are those of plan {}", self.hash),
            )
        })
    }

    /// Keeps the plan, for this start and all later ones.
    ///
    /// # Errors
    /// It cannot be written; nothing has changed then.
    pub(crate) fn accept(&self) -> Result<(), Box<Fault>> {
        if self.is_accepted() {
            return Ok(());
        }
        atomic::write(&self.file, MODE, self.yaml.as_bytes()).map_err(|error| {
            Box::new(Fault::new(
                ResponseStatus::CtlErrApp,
                "server",
                0,
                format!(
                    "the engines that were agreed to cannot be kept in {}",
                    self.file.display()
                ),
                error.to_string(),
                "make room and rights for it, and format again",
            ))
        })?;
        self.accepted.store(true, Ordering::SeqCst);
        info!(
            "plan {} was agreed to; it is kept in {}",
            self.hash,
            self.file.display()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
