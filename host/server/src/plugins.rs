//! The plugins of this host: which there are, and calls to them through their helpers.

use crate::cli::Cli;
use crate::scan::{config_or_default, kind_message};
use crate::state::now_ms;
use anyhow::Context;
use daos_config::{ClassSchema, Config, Diagnostic};
use daos_helper::HelperPool;
use daos_loader::{
    AbiVersion, AllowList, Catalogue, ClassError, NoProvider, PluginFile, PluginInfo, Policy,
    Quarantine, Refusal, StateDir, Trust,
};
use daos_plugin_api::control::ClassKind;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{Fault, Plugin, PluginListResponse, PluginState};
use daos_report::{Envelope, PluginDetail, PluginReport, print_json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

mod calls;
mod condition;
mod detail;
pub(crate) mod firmware;
#[cfg(test)]
mod tests;

pub(crate) use calls::privileged_helper;
pub(crate) use detail::Surroundings;

/// A failure to tell the administrator.
pub(crate) type Trouble = Box<Fault>;

/// The plugins of this host.
pub(crate) struct Plugins {
    /// Read anew when a plugin leaves quarantine: by an administrator, or since its file is another one.
    catalogue: RwLock<Arc<Catalogue>>,
    /// Held by whoever reads it anew: who comes meanwhile takes what they have read.
    reading: Mutex<()>,
    allow: Option<AllowList>,
    dir: Option<PathBuf>,
    helpers: HelperPool,
    state: StateDir,
}

impl Plugins {
    /// Reads the manifests of `plugins_dir` and of this program. Runs no plugin.
    ///
    /// # Errors
    /// When the state directory cannot be used, or `plugins_dir` was configured and is not there.
    pub(crate) fn open(config: &Config, exe: &Path) -> anyhow::Result<Self> {
        let state = open_state(config)?;
        let dir = match &config.plugins_dir {
            Some(dir) => {
                let what = "cannot use plugins_dir";
                std::fs::read_dir(dir).with_context(|| format!("{what} {}", dir.display()))?;
                Some(dir.clone())
            }
            None => daos_config::default_plugins_dir(exe).filter(|dir| dir.is_dir()),
        };
        let policy = Policy {
            trust: Trust::current(),
            allow: config.allowed_plugins(),
            quarantine: state.quarantine()?,
        };
        let catalogue = Catalogue::build(dir.as_deref(), daos_builtins::all(), &policy);
        let plugins = config.plugins.iter().flatten();
        let settings = plugins
            .map(|(name, plugin)| (name.clone(), plugin.settings.clone()))
            .collect();
        let helpers = calls::pool(config, &policy, state.clone(), settings)
            .context("cannot find out the path of this program")?;
        Ok(Self {
            catalogue: RwLock::new(Arc::new(catalogue)),
            reading: Mutex::default(),
            allow: policy.allow,
            dir,
            helpers,
            state,
        })
    }

    /// The plugins as they were when they were read last.
    fn known(&self) -> Arc<Catalogue> {
        let catalogue = self.catalogue.read();
        Arc::clone(&catalogue.unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, read anew if quarantine ended for one of them.
    fn catalogue(&self) -> Arc<Catalogue> {
        let known = self.known();
        let is_outdated = |known: &Catalogue| {
            // If it cannot be read, whoever starts a helper is told why.
            let quarantine = self.state.quarantine().ok()?;
            known.is_outdated(&quarantine).then_some(quarantine)
        };
        if is_outdated(&known).is_none() {
            return known;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        let known = self.known();
        match is_outdated(&known) {
            Some(quarantine) => self.read_anew(quarantine),
            None => known,
        }
    }

    /// To be called by whoever holds `reading`.
    fn read_anew(&self, quarantine: Quarantine) -> Arc<Catalogue> {
        let policy = Policy {
            trust: Trust::current(),
            allow: self.allow.clone(),
            quarantine,
        };
        let read = Catalogue::build(self.dir.as_deref(), daos_builtins::all(), &policy);
        let read = Arc::new(read);
        let mut catalogue = self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *catalogue = Arc::clone(&read);
        read
    }

    /// Names of the plugins that may be used.
    pub(crate) fn names(&self) -> Vec<String> {
        let plugins = &self.catalogue().plugins;
        plugins.iter().map(|p| p.name().to_owned()).collect()
    }

    /// Ends the quarantine of a plugin, by its name or that of its file, and reads all plugins anew; returns how many
    /// files that were.
    ///
    /// # Errors
    /// When the state directory cannot be used.
    pub(crate) fn reset(&self, name: &str) -> anyhow::Result<usize> {
        let records = self.state.quarantine()?.records;
        let of_file = records
            .iter()
            .find(|r| r.path.file_name().is_some_and(|f| f == name));
        let ended = match self.state.quarantine_reset(name)? {
            0 => of_file.map_or(Ok(0), |r| self.state.quarantine_reset(&r.name))?,
            ended => ended,
        };
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_anew(self.state.quarantine()?);
        Ok(ended)
    }

    /// Where leases and quarantine are kept.
    pub(crate) fn state_dir(&self) -> &StateDir {
        &self.state
    }

    /// All plugins that may be used.
    pub(crate) fn usable(&self) -> Vec<PluginInfo> {
        self.catalogue().plugins.clone()
    }

    /// What the plugins say about their classes' keys.
    pub(crate) fn schemas(&self) -> Vec<ClassSchema> {
        let catalogue = self.catalogue();
        let manifests = catalogue.plugins.iter().map(|p| &p.manifest);
        manifests.flat_map(ClassSchema::all_of).collect()
    }

    /// The usable plugin of that name.
    pub(crate) fn get(&self, name: &str) -> Option<PluginInfo> {
        self.catalogue().get(name).cloned()
    }

    /// The plugin that provides a class.
    pub(crate) fn find(&self, kind: ClassKind, class: &str) -> Result<PluginInfo, Trouble> {
        self.catalogue()
            .find(kind, class)
            .cloned()
            .map_err(|error| {
                let remedy = "see `daos_server plugin list`";
                Box::new(Fault::new(
                    ResponseStatus::CtlErrConf,
                    "plugin",
                    0,
                    error.to_string(),
                    "",
                    remedy,
                ))
            })
    }

    /// What is wrong with classes and keys of a configuration; of a provider without a plugin, what is wrong with that.
    pub(crate) fn check_classes(&self, config: &Config) -> Vec<Diagnostic> {
        config.check_classes_with(&self.schemas(), &|provider| {
            let why = self.no_provider(provider)?;
            why.is_named().then(|| (why.cause(), why.remedy()))
        })
    }

    /// Why a provider has no plugin; `None` if it has one.
    pub(crate) fn no_provider(&self, provider: &str) -> Option<Box<NoProvider>> {
        match self.catalogue().find_provider(provider) {
            Err(ClassError::NoProvider(why)) => Some(why),
            _ => None,
        }
    }

    /// The plugins as the control plane tells them.
    pub(crate) fn list_message(&self, config: &Config) -> PluginListResponse {
        let catalogue = self.catalogue();
        let schemas = self.schemas();
        let used = |plugin: &PluginInfo| {
            use daos_config::ClassKind::{Bdev, Fabric, Scm};
            let named = |schema: &ClassSchema| schema.plugin == plugin.name();
            (0..config.servers.len())
                .filter(|i| {
                    let classes =
                        [Scm, Bdev, Fabric].map(|kind| config.class_of(*i, kind, &schemas));
                    classes.into_iter().flatten().any(named)
                })
                .map(|index| index as u32)
                .collect()
        };
        let mut plugins: Vec<Plugin> = catalogue
            .plugins
            .iter()
            .map(|p| Plugin {
                used_by: used(p),
                ..describe(p)
            })
            .collect();
        plugins.extend(catalogue.refused.iter().map(|refused| {
            let quarantined = matches!(refused.reason, Refusal::Quarantined { .. });
            let file = refused.path.file_name().unwrap_or(refused.path.as_os_str());
            let shown = Plugin {
                name: file.to_string_lossy().into_owned(),
                path: refused.path.display().to_string(),
                ..Plugin::default()
            };
            // One that died is known by its name; of another its own words need not be true.
            let shown = match PluginFile::read_manifest(&refused.path) {
                Ok(info) if quarantined => describe(&info),
                _ => shown,
            };
            Plugin {
                state: match quarantined {
                    true => PluginState::Quarantined.into(),
                    false => PluginState::Refused.into(),
                },
                fault: Some(refusal(refused.path.as_path(), &refused.reason)),
                ..shown
            }
        }));
        // It may have come to that since this server read the plugins.
        let quarantine = self.state.quarantine().unwrap_or_default();
        for plugin in &mut plugins {
            let path = Path::new(&plugin.path);
            let usable = catalogue.plugins.iter();
            let info = usable.clone().find(|info| info.path() == Some(path));
            if let Some(Err(reason)) = info.map(|info| quarantine.check(info)) {
                plugin.state = PluginState::Quarantined.into();
                plugin.fault = Some(refusal(path, &reason));
            }
            let record = quarantine.records.iter().find(|r| r.path == path);
            if let Some(record) = record.filter(|_| plugin.state() == PluginState::Quarantined) {
                plugin.since_ms = record.since * 1000;
            }
        }
        // A list without the histories is better than none.
        let incidents = self.state.all_incidents().unwrap_or_default();
        for plugin in &mut plugins {
            if plugin.state() == PluginState::Usable {
                condition::judge(plugin, &catalogue, &incidents, now_ms());
            }
        }
        plugins.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        PluginListResponse {
            plugins,
            plugins_dir: self
                .dir
                .as_ref()
                .map_or_else(String::new, |d| d.display().to_string()),
            abi_version: AbiVersion::HOST.to_string(),
            faults: Vec::new(),
            notes: catalogue.notes.clone(),
        }
    }
}

fn open_state(config: &Config) -> anyhow::Result<StateDir> {
    let root = nix::unistd::geteuid().is_root();
    let dir = config
        .state_dir
        .clone()
        .or_else(|| daos_config::default_state_dir(root, |name| std::env::var_os(name)))
        .context("no state directory: set state_dir or $HOME")?;
    Ok(StateDir::open(dir)?)
}

fn describe(plugin: &PluginInfo) -> Plugin {
    let manifest = &plugin.manifest;
    let mut capabilities: Vec<String> = manifest
        .classes
        .iter()
        .flat_map(|c| c.capabilities.clone())
        .collect();
    capabilities.sort();
    capabilities.dedup();
    let mut kinds: Vec<i32> = manifest
        .classes
        .iter()
        .map(|c| kind_message(c.kind).into())
        .collect();
    kinds.dedup();
    Plugin {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        vendor: manifest.vendor.clone(),
        description: manifest.description.clone(),
        abi_version: plugin.abi.to_string(),
        kinds,
        classes: manifest.classes.iter().map(|c| c.name.clone()).collect(),
        capabilities,
        builtin: plugin.is_built_in(),
        path: plugin
            .path()
            .map_or_else(String::new, |p| p.display().to_string()),
        sha256: plugin.sha256.clone().unwrap_or_default(),
        state: PluginState::Usable.into(),
        ..Plugin::default()
    }
}

/// A refusal: its sentence says what was found and, after the semicolon, what mends it.
fn refusal(path: &Path, reason: &Refusal) -> Fault {
    let text = reason.to_string();
    let (cause, remedy) = text.rsplit_once("; ").unwrap_or((&text, ""));
    let what = format!("{} is not used", path.display());
    Fault::new(ResponseStatus::CtlErrConf, "plugin", 0, what, cause, remedy)
}

/// `plugin list`.
pub(crate) fn list(cli: &Cli) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let overrides = cli
        .start
        .overrides(&crate::cli::StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let report = PluginReport::from(Plugins::open(&config, &exe)?.list_message(&config));
    if cli.globals.json {
        print_json(&Envelope::ok(report))?;
    } else {
        daos_report::print_line!("{}", report.text());
    }
    Ok(true)
}

/// `plugin inspect NAME|FILE`: what the plugin is, and whether it would be used.
pub(crate) fn inspect(cli: &Cli, name: &str) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let overrides = cli
        .start
        .overrides(&crate::cli::StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let found = match Plugins::open(&config, &exe)? {
        // A name has no slash; a file beside this one that is called like a plugin can be meant by `./`.
        plugins if !name.contains('/') => {
            let found = plugins.detail(&config, name, &Surroundings::default());
            found.or_else(|_| plugins.detail_of_file(Path::new(name)))
        }
        plugins => plugins.detail_of_file(Path::new(name)),
    };
    let detail = PluginDetail::from(found.map_err(|fault| anyhow::anyhow!("{fault}"))?);
    let usable = detail.plugin.fault.is_none();
    if cli.globals.json {
        let error = detail.plugin.fault.as_ref().map(|f| format!("{name}: {f}"));
        print_json(&match error {
            None => Envelope::ok(detail),
            Some(error) => Envelope::failed(Some(detail), error),
        })?;
    } else {
        daos_report::print_line!("{}", detail.text());
    }
    Ok(usable)
}

/// `plugin reset NAME`.
pub(crate) fn reset(cli: &Cli, name: &str) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let overrides = cli
        .start
        .overrides(&crate::cli::StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let plugins = Plugins::open(&config, &exe)?;
    let ended = plugins.reset(name)?;
    // A name that nobody has is a mistake, not a plugin that is well.
    if ended == 0 {
        let known = plugins.detail(&config, name, &Surroundings::default());
        known.map_err(|fault| anyhow::anyhow!("{fault}"))?;
    }
    if cli.globals.json {
        print_json(&Envelope::ok(
            serde_json::json!({ "name": name, "files": ended }),
        ))?;
    } else if ended == 0 {
        daos_report::print_line!("no file of plugin {name} is in quarantine");
    } else {
        daos_report::print_line!("plugin {name} is out of quarantine ({ended} file(s))");
    }
    Ok(true)
}
