//! Network interfaces and fabric providers of a host.

use crate::{FaultRow, table};
use daos_proto::host;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Answer of `network scan`.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkReport {
    /// The interfaces under each provider, by provider and priority.
    pub interfaces: Vec<NetworkRow>,
    /// All providers that the plugins have here.
    pub providers: Vec<ProviderRow>,
    /// The providers that were asked for; empty = all.
    pub wanted: Vec<String>,
    /// Plugins that could not be asked, with the reason.
    pub faults: BTreeMap<String, FaultRow>,
}

/// One interface under one provider.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct NetworkRow {
    pub provider: String,
    pub plugin: String,
    pub interface: String,
    pub domain: String,
    pub numa_node: Option<i32>,
    pub link: String,
    pub speed_mbps: u64,
    pub priority: u32,
}

/// One provider.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct ProviderRow {
    pub name: String,
    pub plugin: String,
    pub version: String,
    pub unusable: String,
}

impl From<host::NetworkScanResponse> for NetworkReport {
    fn from(response: host::NetworkScanResponse) -> Self {
        let faults = response.faults.into_iter();
        Self {
            interfaces: response
                .interfaces
                .into_iter()
                .map(NetworkRow::from)
                .collect(),
            providers: response
                .providers
                .into_iter()
                .map(ProviderRow::from)
                .collect(),
            wanted: response.wanted,
            faults: faults
                .map(|f| (f.plugin, FaultRow::from(&f.fault.unwrap_or_default())))
                .collect(),
        }
    }
}

impl From<host::NetworkInterface> for NetworkRow {
    fn from(row: host::NetworkInterface) -> Self {
        Self {
            provider: row.provider,
            plugin: row.plugin,
            interface: row.interface,
            domain: row.domain,
            numa_node: row.numa_node,
            link: row.link,
            speed_mbps: row.speed_mbps,
            priority: row.priority,
        }
    }
}

impl From<host::FabricProvider> for ProviderRow {
    fn from(row: host::FabricProvider) -> Self {
        Self {
            name: row.name,
            plugin: row.plugin,
            version: row.version,
            unusable: row.unusable,
        }
    }
}

impl NetworkReport {
    /// Whether everything could be asked and something was found.
    pub fn is_complete(&self) -> bool {
        self.faults.is_empty() && !self.interfaces.is_empty()
    }

    /// The interfaces for people.
    pub fn text(&self) -> String {
        let known = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        let rows = self.interfaces.iter().map(|row| {
            vec![
                row.provider.clone(),
                row.interface.clone(),
                known(&row.domain),
                row.numa_node
                    .map_or_else(|| "-".to_owned(), |node| node.to_string()),
                known(&row.link),
                speed(row.speed_mbps),
                row.priority.to_string(),
            ]
        });
        let headings = [
            "PROVIDER",
            "INTERFACE",
            "DOMAIN",
            "NUMA",
            "LINK",
            "SPEED",
            "PRIORITY",
        ];
        let mut text = match self.interfaces.is_empty() {
            false => table(&headings, rows),
            true => self.nothing(),
        };
        self.append_faults(&mut text);
        text
    }

    fn nothing(&self) -> String {
        if self.wanted.is_empty() {
            return "no provider finds an interface".to_owned();
        }
        let mut names: Vec<&str> = self.providers.iter().map(|p| p.name.as_str()).collect();
        names.dedup();
        let mut text = format!(
            "no interface for provider {}; providers here: {}; -p all shows every interface",
            self.wanted.join(", "),
            names.join(", ")
        );
        for wanted in &self.wanted {
            let _ = write!(text, "\n{wanted}: {}", self.why_nothing(wanted));
        }
        text
    }

    /// Why a provider that is asked for has no interface: it finds none, or nobody here has one of that name.
    fn why_nothing(&self, wanted: &str) -> String {
        let bare = wanted.strip_prefix("ofi+").unwrap_or(wanted);
        let core = bare.split(';').next().unwrap_or(bare);
        if let Some(row) = self.providers.iter().find(|row| row.name == core) {
            return match row.unusable.as_str() {
                "" => "it is there, and finds no interface".to_owned(),
                why => format!("it is there, and {why}"),
            };
        }
        let distance = |row: &&ProviderRow| strsim::osa_distance(core, &row.name);
        match self.providers.iter().min_by_key(distance) {
            Some(near) if distance(&near) <= core.len() / 3 => {
                let prefix = wanted.strip_suffix(bare).unwrap_or_default();
                format!("nothing here is called so; did you mean {prefix}{}?", near.name)
            }
            _ => "no plugin here has a provider of that name: it is misspelled, or libfabric was built without it".to_owned(),
        }
    }

    /// The providers as `fi_info -l` lists them, each with what keeps it from being used.
    pub fn providers_text(&self) -> String {
        let mut text = String::new();
        for provider in &self.providers {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}:", provider.name);
            if !provider.version.is_empty() {
                let _ = writeln!(text, "    version: {}", provider.version);
            }
            let _ = writeln!(text, "    plugin: {}", provider.plugin);
            if !provider.unusable.is_empty() {
                let _ = writeln!(text, "    not usable: {}", provider.unusable);
            }
        }
        self.append_faults(&mut text);
        text.trim_end().to_owned()
    }

    fn append_faults(&self, text: &mut String) {
        for (plugin, fault) in &self.faults {
            let _ = write!(text, "\n\nplugin {plugin} could not be asked: {fault}");
        }
    }
}

fn speed(mbps: u64) -> String {
    match mbps {
        0 => "-".to_owned(),
        mbps if mbps % 1000 == 0 => format!("{} Gb/s", mbps / 1000),
        mbps => format!("{mbps} Mb/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> NetworkReport {
        NetworkReport::from(host::NetworkScanResponse {
            interfaces: vec![host::NetworkInterface {
                provider: "ofi+verbs;ofi_rxm".to_owned(),
                interface: "ib0".to_owned(),
                domain: "mlx5_0".to_owned(),
                numa_node: Some(1),
                link: "up".to_owned(),
                speed_mbps: 100_000,
                ..Default::default()
            }],
            providers: vec![host::FabricProvider {
                name: "psm2".to_owned(),
                version: "117.0".to_owned(),
                unusable: "finds nothing".to_owned(),
                ..Default::default()
            }],
            wanted: vec!["ofi+verbs".to_owned()],
            ..Default::default()
        })
    }

    #[test]
    fn an_interface_is_a_row() {
        let text = report().text();
        let row = text.lines().nth(1).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "ofi+verbs;ofi_rxm",
                "ib0",
                "mlx5_0",
                "1",
                "up",
                "100",
                "Gb/s",
                "0"
            ]
        );
    }

    #[test]
    fn nothing_names_what_there_is() {
        let mut report = report();
        assert!(report.is_complete());
        report.interfaces.clear();
        assert!(!report.is_complete());
        let text = report.text();
        assert!(
            text.contains("ofi+verbs") && text.contains("psm2"),
            "{text}"
        );
    }

    #[test]
    fn without_interfaces_the_reason_is_told() {
        let mut report = report();
        report.interfaces.clear();
        for (wanted, reason) in [
            ("ofi+psm2", "ofi+psm2: it is there, and finds nothing"),
            ("ofi+psn2;ofi_rxm", "did you mean ofi+psm2?"),
            ("pms2", "did you mean psm2?"),
            ("ofi+tcp", "no plugin here has a provider of that name"),
        ] {
            report.wanted = vec![wanted.to_owned()];
            let text = report.text();
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn providers_are_listed_as_fi_info_does() {
        let text = report().providers_text();
        assert!(text.starts_with("psm2:\n    version: 117.0\n"), "{text}");
        assert!(text.ends_with("not usable: finds nothing"), "{text}");
    }
}
