//! How plugins do that may be used.

use daos_loader::{Catalogue, ClassError, Incident};
use daos_plugin_api::control::ClassKind;
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{Fault, Plugin, PluginState};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// How long after it brought an engine down a plugin is told as failing.
const FAILING: Duration = Duration::from_secs(3600);

/// Says of a plugin that may be used what keeps it from being of use: another one of its class, or that it brought an
/// engine down lately.
pub(super) fn judge(
    plugin: &mut Plugin,
    catalogue: &Catalogue,
    incidents: &[Incident],
    now_ms: u64,
) {
    if let Some(error) = ambiguity(plugin, catalogue) {
        plugin.state = PluginState::Ambiguous.into();
        let what = format!("plugin {} is not used", plugin.name);
        let text = error.to_string();
        let (cause, remedy) = text.rsplit_once("; ").unwrap_or((&text, ""));
        plugin.fault = Some(fault(what, cause.to_owned(), remedy.to_owned()));
        return;
    }
    // What it did to helpers is the quarantine's.
    let of_engines = |i: &&Incident| i.process.starts_with("engine");
    let of_it = incidents
        .iter()
        .filter(|i| i.plugin == plugin.name)
        .filter(of_engines);
    let Some(last) = of_it.max_by_key(|incident| incident.at_ms) else {
        return;
    };
    let is_recent = now_ms.saturating_sub(last.at_ms) < FAILING.as_millis() as u64;
    // Another file is another plugin.
    let is_older = last.at_ms < changed_ms(&plugin.path);
    if is_recent && !is_older {
        plugin.state = PluginState::Failing.into();
        plugin.since_ms = last.at_ms;
        let what = format!("plugin {} failed in {}", plugin.name, last.process);
        let remedy = format!(
            "`plugin inspect {}` has the history and its last log lines",
            plugin.name
        );
        plugin.fault = Some(fault(what, last.what.clone(), remedy));
    }
}

fn ambiguity(plugin: &Plugin, catalogue: &Catalogue) -> Option<ClassError> {
    let known = catalogue.get(&plugin.name)?;
    let mut classes = known.manifest.classes.iter();
    // Of several providers that serve one name the configuration chooses by another rule.
    classes.find_map(|class| match class.kind {
        ClassKind::Fabric => None,
        kind => match catalogue.find(kind, &class.name) {
            Err(error @ ClassError::Ambiguous { .. }) => Some(error),
            _ => None,
        },
    })
}

/// When the file was changed last; 0 for a built-in plugin.
fn changed_ms(path: &str) -> u64 {
    let found = std::fs::metadata(path);
    found.map_or(0, |f| {
        let ms = f.mtime() * 1000 + f.mtime_nsec() / 1_000_000;
        u64::try_from(ms).unwrap_or(0)
    })
}

fn fault(what: String, cause: String, remedy: String) -> Fault {
    Fault::new(ResponseStatus::CtlErrApp, "plugin", 0, what, cause, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brought_an_engine_down_lately_is_failing() {
        let incident = |at_ms| Incident {
            at_ms,
            plugin: "bdev-acme".to_owned(),
            process: "engine 0".to_owned(),
            what: "the engine died: SIGSEGV".to_owned(),
            log: Vec::new(),
        };
        let hour = FAILING.as_millis() as u64;
        let judged = |name: &str, incidents: &[Incident]| {
            let mut plugin = Plugin {
                name: name.to_owned(),
                state: PluginState::Usable.into(),
                ..Plugin::default()
            };
            judge(&mut plugin, &Catalogue::default(), incidents, 10 * hour);
            plugin
        };
        assert_eq!(judged("bdev-acme", &[]).state(), PluginState::Usable);
        let long_ago = [incident(10 * hour - hour)];
        assert_eq!(judged("bdev-acme", &long_ago).state(), PluginState::Usable);
        let lately = [incident(10 * hour - 5), incident(9 * hour)];
        assert_eq!(judged("other", &lately).state(), PluginState::Usable);
        let found = judged("bdev-acme", &lately);
        assert_eq!(found.state(), PluginState::Failing);
        assert_eq!(found.since_ms, 10 * hour - 5);
        let told = found.fault.expect("why").description();
        assert!(
            told.contains("engine 0") && told.contains("SIGSEGV"),
            "{told}"
        );
    }
}
