//! What the system's administrator has ordered: the configuration of the host, read as root.

use crate::authority::Orders;
use crate::{places, rights};
use daos_config::{ClassKind, ClassSchema, Config, Overrides, SYSTEM_PATHS};
use daos_loader::{Catalogue, PluginInfo, Policy, Quarantine, Trust};
use daos_plugin_api::control::ClassRequest;
use nix::unistd::{Uid, User};
use std::path::{Path, PathBuf};

impl Orders {
    /// Reads what may be done with the plugin of that name, for whoever started this program. Runs none of its code.
    ///
    /// # Errors
    /// A sentence: there are no orders for this plugin or this user, or others than root could have given them.
    pub(crate) fn read(plugin: &str) -> Result<Self, String> {
        let caller = rights::caller()?;
        let root = Trust::current();
        let (path, config) = configuration(root)?;
        let shown = path.display();
        may_call(&config, caller).map_err(|why| format!("{shown}: {why}"))?;
        let directory = config.plugins_dir.clone().ok_or_else(|| {
            format!("{shown} has no plugins_dir, and what is done with rights is done by plugins that are files; set it")
        })?;
        let policy = Policy {
            trust: root,
            allow: config.allowed_plugins(),
            quarantine: Quarantine::default(),
        };
        let found = find(&directory, plugin, &policy)?;
        let capabilities = rights::set_of(&found.manifest.privileges)
            .map_err(|why| format!("plugin {plugin}: {why}"))?;
        let classes = classes(&config, &found);
        let settings = config.plugins.iter().flatten();
        let settings = settings
            .filter(|(name, _)| *name == plugin)
            .map(|(_, p)| p.settings.clone())
            .next()
            .unwrap_or_default();
        Ok(Self {
            doubt: places::doubt(&settings, None, root),
            settings,
            plugin: found,
            policy,
            classes,
            capabilities,
            path,
            root,
        })
    }
}

/// The configuration of this host. No other file counts: whoever starts this program could have written it.
fn configuration(root: Trust) -> Result<(PathBuf, Config), String> {
    let exists = |p: &&&str| Path::new(p).symlink_metadata().is_ok();
    let path = SYSTEM_PATHS.iter().find(exists).ok_or_else(|| {
        format!(
            "there is none of {}; what may be done with rights is written there, by root",
            SYSTEM_PATHS.join(" and ")
        )
    })?;
    let path = root
        .program(Path::new(path))
        .map_err(|refusal| format!("{path} is not root's alone: {refusal}"))?;
    let loaded = Config::load(&path, &Overrides::default()).map_err(|errors| {
        let first = errors.errors().next();
        let told = first.map_or_else(|| "it is malformed".to_owned(), ToString::to_string);
        format!("{} cannot be used: {told}", path.display())
    })?;
    Ok((path, loaded.config))
}

/// Whether that user's daemon may call: the one that the configuration names, if it names one.
fn may_call(config: &Config, caller: Uid) -> Result<(), String> {
    let Some(name) = &config.user_name else {
        return Ok(());
    };
    let user = User::from_name(name).map_err(|e| format!("user_name: {name}: {e}"))?;
    match user {
        Some(user) if user.uid == caller => Ok(()),
        Some(user) => Err(format!(
            "user_name is {name} (user {}), and user {caller} calls",
            user.uid
        )),
        None => Err(format!("user_name: there is no user {name} on this host")),
    }
}

fn find(directory: &Path, plugin: &str, policy: &Policy) -> Result<PluginInfo, String> {
    let catalogue = Catalogue::build(Some(directory), [], policy);
    if let Some(found) = catalogue.get(plugin) {
        return Ok(found.clone());
    }
    let refused = catalogue
        .refused
        .iter()
        .map(|r| format!("; {}: {}", r.path.display(), r.reason));
    Err(format!(
        "{} has no plugin {plugin} that root alone could have put there{}",
        directory.display(),
        refused.collect::<String>()
    ))
}

/// The classes of this plugin that engines of this host have, as a daemon would ask for them.
fn classes(config: &Config, plugin: &PluginInfo) -> Vec<ClassRequest> {
    let used = |schema: ClassSchema| {
        let servers = config.servers.iter();
        let requests = servers
            .filter(|server| server.class_name(schema.kind) == Some(&schema.class))
            .map(|server| ClassRequest {
                class: schema.class.clone(),
                config: server.class_section(&schema),
            });
        requests.collect::<Vec<_>>()
    };
    ClassSchema::all_of(&plugin.manifest)
        .filter(|schema| schema.kind != ClassKind::Fabric)
        .flat_map(used)
        .collect()
}
