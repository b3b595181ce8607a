//! The beginning of a helper: its plugin is inspected once more, loaded, and quarantined if it does not survive that.

use super::session::{Ended, Session};
use super::{Inner, killed};
use crate::error::Cause;
use crate::protocol::{Start, VERSION};
use daos_loader::{Origin, PluginFile, PluginInfo, Policy};
use serde_json::Value;

/// The steps in which a plugin that harms its helper is quarantined.
const LOADED: &str = "loaded";
const SCANNED: &str = "scanned";

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
        let mut session = Session::start(&self.options, fresh, part)?;
        self.begin_step(&mut session);
        match session.load(start, self.options.load_deadline).await {
            Ok(()) => {
                self.survived(&session.plugin, LOADED);
                Ok(session)
            }
            Err(mut ended) => {
                // A helper program that does not even get to the plugin is not the plugin's fault.
                if session.loading {
                    self.judge(&session, &mut ended, LOADED);
                }
                session.end().await;
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

    /// Notes what a kill in the coming step is judged by.
    pub(super) fn begin_step(&self, session: &mut Session) {
        if self.options.state.is_some() && !session.plugin.is_built_in() {
            session.oom_kills = killed::for_want_of_memory(&self.options.kills.vmstat);
        }
    }

    /// A scan is asked for by whoever looks, again and again: one that kills its process is like a load that does. One that is
    /// late may be a device's fault.
    pub(super) fn judge_scan(&self, session: &Session, result: &mut Result<Value, Ended>) {
        match result {
            Ok(_) => self.survived(&session.plugin, SCANNED),
            Err(ended) if matches!(ended.cause, Cause::Deadline { .. }) => {}
            Err(ended) => self.judge(session, ended, SCANNED),
        }
    }

    /// Quarantines a file that killed, blocked or confused its helper while it was being loaded or scanned. One that answered,
    /// if only with an error, did not.
    fn judge(&self, session: &Session, ended: &mut Ended, doing: &str) {
        let plugin = &session.plugin;
        let (Some(state), false) = (&self.options.state, plugin.is_built_in()) else {
            return;
        };
        let (reason, flag) = match &mut ended.cause {
            Cause::Plugin(_) | Cause::Refused(_) => return self.survived(plugin, doing),
            // It was somebody else, and the helper happened to work. Again and again that does not happen.
            Cause::Died { how, quarantined } if killed::is_by_others(*how) => {
                let kills = &self.options.kills;
                let oom_kills = killed::for_want_of_memory(&kills.vmstat);
                if killed::may_be_for_want_of_memory(*how, session.oom_kills, oom_kills) {
                    return tracing::warn!(
                        "the kernel has killed processes for want of memory while plugin {} was {doing}; its helper seems to \
                         be one of them",
                        plugin.name()
                    );
                }
                match state.quarantine_suspect(plugin, doing, kills.apart) {
                    Ok(killed::MOST..) => (
                        format!(
                            "{how} while it was {doing}, and so were {} of its helpers in a row",
                            killed::MOST
                        ),
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
    fn survived(&self, plugin: &PluginInfo, doing: &str) {
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
