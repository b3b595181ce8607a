//! Plugins of a host.

use crate::units::duration;
use crate::{FaultRow, table};
use daos_proto::host;
use serde::Serialize;

/// Answer of `plugin list`.
#[derive(Clone, Debug, Serialize)]
pub struct PluginReport {
    /// Directory that was searched, empty when there is none.
    pub plugins_dir: String,
    /// Interface version of this host, "major.minor".
    pub abi_version: String,
    /// What stands in the way of the directory as a whole.
    pub faults: Vec<FaultRow>,
    /// Who is used where several plugins have one name or declare one class.
    pub notes: Vec<String>,
    /// The plugins.
    pub plugins: Vec<PluginRow>,
}

/// One plugin.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct PluginRow {
    pub name: String,
    pub version: String,
    pub vendor: String,
    pub description: String,
    pub abi_version: String,
    pub kinds: Vec<&'static str>,
    pub classes: Vec<String>,
    pub capabilities: Vec<String>,
    pub builtin: bool,
    pub path: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    pub state: &'static str,
    pub fault: Option<FaultRow>,
    pub used_by: Vec<u32>,
    /// Since when it is quarantined, or when it failed last, milliseconds since the epoch; 0 for neither.
    pub since_ms: u64,
}

impl From<host::PluginListResponse> for PluginReport {
    fn from(response: host::PluginListResponse) -> Self {
        Self {
            plugins_dir: response.plugins_dir,
            abi_version: response.abi_version,
            faults: response.faults.iter().map(FaultRow::from).collect(),
            notes: response.notes,
            plugins: response.plugins.into_iter().map(PluginRow::from).collect(),
        }
    }
}

impl From<host::Plugin> for PluginRow {
    fn from(plugin: host::Plugin) -> Self {
        Self {
            kinds: plugin.kinds().map(kind_text).collect(),
            state: match plugin.state() {
                host::PluginState::Usable => "usable",
                host::PluginState::Refused => "refused",
                host::PluginState::Quarantined => "quarantined",
                host::PluginState::Shadowed => "shadowed",
                host::PluginState::Failing => "failing",
                host::PluginState::Ambiguous => "ambiguous",
                host::PluginState::Unspecified => "unknown",
            },
            fault: plugin.fault.as_ref().map(FaultRow::from),
            name: plugin.name,
            version: plugin.version,
            vendor: plugin.vendor,
            description: plugin.description,
            abi_version: plugin.abi_version,
            classes: plugin.classes,
            capabilities: plugin.capabilities,
            builtin: plugin.builtin,
            path: plugin.path,
            sha256: plugin.sha256,
            used_by: plugin.used_by,
            since_ms: plugin.since_ms,
        }
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_millis() as u64) // fits for a long time
}

pub(crate) fn kind_text(kind: host::Kind) -> &'static str {
    match kind {
        host::Kind::Scm => "scm",
        host::Kind::Bdev => "bdev",
        host::Kind::Fabric => "fabric",
        host::Kind::Unspecified => "unknown",
    }
}

impl PluginReport {
    /// The list for people: a table, then one paragraph per plugin that cannot be used or that fails.
    pub fn text(&self) -> String {
        let rows = self.plugins.iter().map(|p| {
            let source = if p.builtin {
                "built in".to_owned()
            } else {
                p.path.clone()
            };
            vec![
                p.name.clone(),
                p.version.clone(),
                p.abi_version.clone(),
                p.kinds.join(","),
                p.classes.join(","),
                p.state.to_owned(),
                source,
            ]
        });
        let mut text = table(
            &["NAME", "VERSION", "ABI", "KIND", "CLASS", "STATE", "SOURCE"],
            rows,
        );
        for fault in &self.faults {
            text += &format!("\n\nplugins_dir {}: {fault}", self.plugins_dir);
        }
        for note in &self.notes {
            text += &format!("\n\nnote: {note}");
        }
        for plugin in &self.plugins {
            if let Some(fault) = &plugin.fault {
                let since = match plugin.since_ms {
                    0 => String::new(),
                    ms => {
                        let ago = duration(now_ms().saturating_sub(ms));
                        match plugin.state {
                            "failing" => format!(" {ago} ago"),
                            _ => format!(" for {ago}"),
                        }
                    }
                };
                text += &format!("\n\n{} ({}{since}): {fault}", plugin.name, plugin.state);
            }
        }
        text
    }

    /// Whether something in the list needs the administrator's attention.
    pub fn has_faults(&self) -> bool {
        !self.faults.is_empty() || self.plugins.iter().any(|p| p.fault.is_some())
    }
}
