//! The beginning of a helper: its plugin is inspected once more, loaded, and quarantined if it does not survive that.

use super::Inner;
use super::session::{Ended, Session};
use crate::error::{Cause, Death};
use crate::protocol::{Start, VERSION};
use daos_loader::{Origin, PluginFile, PluginInfo, Policy};
use nix::sys::signal::Signal;

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
            Ok(()) => Ok(session),
            Err(mut ended) => {
                // A helper program that does not even get to the plugin is not the plugin's fault.
                let loading = session.loading;
                session.end().await;
                if loading {
                    self.quarantine(&fresh, &mut ended, "loaded");
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

    /// Quarantines a file that killed or blocked its helper while it was being loaded or scanned.
    pub(super) fn quarantine(&self, plugin: &PluginInfo, ended: &mut Ended, doing: &str) {
        let (reason, flag) = match &mut ended.cause {
            // No crash ends like this: an administrator, or the kernel for want of memory, killed the helper
            // that happened to load this plugin. One that hangs is killed by us, and ends as a deadline.
            Cause::Died { how, .. } if *how == Death::Signal(Signal::SIGKILL as i32) => return,
            Cause::Died { how, quarantined } => {
                (format!("{how} while it was {doing}"), quarantined)
            }
            Cause::Deadline {
                after_ms,
                quarantined,
            } => (
                format!("it did not finish loading within {after_ms} ms"),
                quarantined,
            ),
            _ => return,
        };
        let (Some(state), false) = (&self.options.state, plugin.is_built_in()) else {
            return;
        };
        match state.quarantine_add(plugin, &reason) {
            Ok(()) => *flag = true,
            Err(e) => tracing::error!("plugin {} is not quarantined: {e}", plugin.name()),
        }
    }
}
