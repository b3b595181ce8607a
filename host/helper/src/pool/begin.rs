//! The beginning of a helper: its plugin is inspected once more, loaded, and quarantined if it does not survive that.

use super::Inner;
use super::session::{Ended, Session};
use crate::error::{Cause, Death};
use crate::protocol::{Start, VERSION};
use daos_loader::{Origin, PluginFile, PluginInfo, Policy};
use nix::sys::signal::Signal;

/// How often in a row a helper may be killed, by whomever, in one step of one state of a file.
const KILLS: u32 = 3;
/// The steps.
const LOADED: &str = "loaded";
pub(super) const SCANNED: &str = "scanned";

impl Inner {
    /// Starts a helper and waits until its plugin is loaded.
    pub(super) async fn start(&self, plugin: &PluginInfo) -> Result<Session, Ended> {
        let fresh = self.inspect_again(plugin)?;
        let name = fresh.name().to_owned();
        let start = Start {
            protocol: VERSION,
            settings: self
                .options
                .settings
                .get(&name)
                .cloned()
                .unwrap_or_default(),
            plugin: fresh.clone(),
            allow: self.options.allow.clone(),
            // Filled in by the session.
            log_level: String::new(),
        };
        let part = self.metrics.part(&name);
        let mut session = Session::start(&self.options, &fresh, part)?;
        match session.load(start, self.options.load_deadline).await {
            Ok(()) => {
                self.survived(&fresh, LOADED);
                Ok(session)
            }
            Err(mut ended) => {
                // A helper program that does not even get to the plugin is not the plugin's fault.
                let loading = session.loading;
                session.end().await;
                if loading {
                    self.quarantine(&fresh, &mut ended, LOADED);
                }
                Err(ended)
            }
        }
    }

    /// The file may have been replaced, repaired or quarantined since the daemon listed it.
    fn inspect_again(&self, plugin: &PluginInfo) -> Result<PluginInfo, Ended> {
        let refused = |reason: String| {
            let name = plugin.name();
            Ended::unusable(Cause::Refused(format!(
                "cannot load plugin {name}: {reason}"
            )))
        };
        let Origin::File { path, .. } = &plugin.origin else {
            return Ok(plugin.clone());
        };
        let quarantine = match &self.options.state {
            Some(state) => state.quarantine().map_err(|e| refused(e.to_string()))?,
            None => daos_loader::Quarantine::default(),
        };
        let policy = Policy {
            allow: self.options.allow.clone(),
            quarantine,
            ..Policy::default()
        };
        let fresh = PluginFile::inspect(path, &policy).map_err(|e| refused(e.to_string()))?;
        if fresh.name() != plugin.name() {
            return Err(refused(format!(
                "{} now holds plugin {}; restart the daemon to use it",
                path.display(),
                fresh.name()
            )));
        }
        Ok(fresh)
    }

    /// Quarantines a file that killed, blocked or confused its helper while it was being loaded or scanned.
    pub(super) fn quarantine(&self, plugin: &PluginInfo, ended: &mut Ended, doing: &str) {
        let (Some(state), false) = (&self.options.state, plugin.is_built_in()) else {
            return;
        };
        let (reason, flag) = match &mut ended.cause {
            // No crash ends like this: an administrator, or the kernel for want of memory, killed the helper that happened to
            // load this plugin. Again and again it does not happen. One that hangs is killed by us, and ends as a deadline.
            Cause::Died { how, quarantined } if *how == Death::Signal(Signal::SIGKILL as i32) => {
                match state.quarantine_suspect(plugin, doing) {
                    Ok(KILLS..) => (
                        format!("{how} {KILLS} times while it was {doing}"),
                        quarantined,
                    ),
                    Ok(_) => return,
                    Err(e) => {
                        return tracing::error!(
                            "a death of plugin {} is not kept: {e}",
                            plugin.name()
                        );
                    }
                }
            }
            Cause::Died { how, quarantined } => {
                (format!("{how} while it was {doing}"), quarantined)
            }
            Cause::Deadline {
                after_ms,
                quarantined,
            } => (
                format!("it was not {doing} within {after_ms} ms"),
                quarantined,
            ),
            Cause::Nonsense { what, quarantined } => (
                format!("it sent nonsense to the daemon while it was {doing}: {what}"),
                quarantined,
            ),
            _ => return,
        };
        match state.quarantine_add(plugin, &reason) {
            Ok(()) => *flag = true,
            Err(e) => tracing::error!("plugin {} is not quarantined: {e}", plugin.name()),
        }
    }

    /// A plugin was loaded or scanned without harm: who killed earlier helpers was not the plugin.
    pub(super) fn survived(&self, plugin: &PluginInfo, doing: &str) {
        if let (Some(state), false) = (&self.options.state, plugin.is_built_in())
            && let Err(e) = state.quarantine_clear(plugin, doing)
        {
            tracing::error!(
                "what plugin {} was suspected of is kept: {e}",
                plugin.name()
            );
        }
    }
}
