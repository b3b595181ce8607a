//! One plugin with everything that is known of it.

use crate::plugins::PluginRow;
use crate::table;
use crate::units::bytes;
use daos_proto::host;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Answer of `plugin inspect`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in plugin.proto
pub struct PluginDetail {
    #[serde(flatten)]
    pub plugin: PluginRow,
    pub host_abi_version: String,
    pub manifest: Value,
    pub paths: Vec<PathRow>,
    pub dependencies: Vec<DependencyRow>,
    pub log_level: String,
    pub uses: Vec<UseRow>,
    pub metrics: Vec<MetricsRow>,
    pub incidents: Vec<IncidentRow>,
    pub helper: Option<HelperRow>,
}

/// A file or directory that decides about trust.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct PathRow {
    pub path: String,
    pub uid: u32,
    pub gid: u32,
    /// Octal.
    pub mode: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub modified_ms: u64,
}

/// A library that it pulls in, or a directory that is searched for one.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct DependencyRow {
    pub name: String,
    pub needed_by: String,
    /// "library", "system", "directory" or "missing".
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRow>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub refusal: String,
}

/// The plugin in an engine.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct UseRow {
    pub engine: u32,
    pub layers: Vec<String>,
    pub log_level: String,
}

/// What it tells in a process.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct MetricsRow {
    pub process: String,
    pub metrics: Value,
}

/// The end of a process in it.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct IncidentRow {
    pub at_ms: u64,
    pub process: String,
    pub what: String,
    pub log: Vec<String>,
}

/// Its helpers.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct HelperRow {
    pub pid: u32,
    pub starts: u64,
    pub deaths: u64,
    pub recycled: u64,
    pub calls: u64,
    pub failures: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What is no JSON is shown as the text it is.
fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::from(text))
}

impl From<host::PluginPath> for PathRow {
    fn from(p: host::PluginPath) -> Self {
        Self {
            path: p.path,
            uid: p.uid,
            gid: p.gid,
            mode: format!("{:04o}", p.mode),
            size: p.size,
            modified_ms: p.modified_ms,
        }
    }
}

impl From<host::PluginDependency> for DependencyRow {
    fn from(d: host::PluginDependency) -> Self {
        use host::PluginDependencyKind::{Directory, Library, Missing, System, Unspecified};
        Self {
            kind: match d.kind() {
                Library => "library",
                System => "system",
                Directory => "directory",
                Missing => "missing",
                Unspecified => "unknown",
            },
            name: d.name,
            needed_by: d.needed_by,
            path: d.path.map(PathRow::from),
            refusal: d.refusal,
        }
    }
}

impl DependencyRow {
    /// In a line, without the file that asks where that is the plugin's own.
    fn text(&self, plugin: &str) -> String {
        let whose = match self.needed_by == plugin {
            true => String::new(),
            false => format!(", for {}", self.needed_by),
        };
        let place = match (&self.path, self.kind) {
            (None, _) => format!("{} is found nowhere", self.name),
            (Some(path), "system") => format!("{}, the system's", path.path),
            (Some(path), _) => format!("{}:{} {} {}", path.uid, path.gid, path.mode, path.path),
        };
        match self.refusal.as_str() {
            "" => format!("{place}{whose}"),
            refusal => format!("{place}{whose}: NOT TRUSTED, {refusal}"),
        }
    }
}

impl From<host::PluginInspectResponse> for PluginDetail {
    fn from(answer: host::PluginInspectResponse) -> Self {
        let usage = |u: host::PluginUse| UseRow {
            engine: u.engine,
            layers: u.layers,
            log_level: u.log_level.to_uppercase(),
        };
        let metrics = |m: host::PluginMetrics| MetricsRow {
            process: m.process,
            metrics: json(m.metrics),
        };
        let incident = |i: host::PluginIncident| IncidentRow {
            at_ms: i.at_ms,
            process: i.process,
            what: i.what,
            log: i.log,
        };
        Self {
            plugin: PluginRow::from(answer.plugin.unwrap_or_default()),
            host_abi_version: answer.abi_version,
            manifest: match answer.manifest.is_empty() {
                true => Value::Null,
                false => json(answer.manifest),
            },
            paths: answer.paths.into_iter().map(PathRow::from).collect(),
            dependencies: answer
                .dependencies
                .into_iter()
                .map(DependencyRow::from)
                .collect(),
            log_level: answer.log_level.to_uppercase(),
            uses: answer.uses.into_iter().map(usage).collect(),
            metrics: answer.metrics.into_iter().map(metrics).collect(),
            incidents: answer.incidents.into_iter().map(incident).collect(),
            helper: answer.helper.map(|h| HelperRow {
                pid: h.pid,
                starts: h.starts,
                deaths: h.deaths,
                recycled: h.recycled,
                calls: h.calls,
                failures: h.failures,
            }),
        }
    }
}

/// A time in UTC, to the second.
fn stamp(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms"))
}

impl PluginDetail {
    /// The plugin for people.
    pub fn text(&self) -> String {
        let p = &self.plugin;
        let mut lines = vec![format!("{} {} ({})", p.name, p.version, p.state)];
        let mut fact = |name: &str, value: String| {
            if !value.is_empty() {
                lines.push(format!("  {name:<12} {value}"));
            }
        };
        if let Some(fault) = &p.fault {
            fact("why", fault.to_string());
        }
        if p.since_ms > 0 {
            fact("since", stamp(p.since_ms));
        }
        fact("vendor", p.vendor.clone());
        fact("description", p.description.clone());
        fact(
            "interface",
            match p.abi_version.as_str() {
                "" => String::new(),
                abi => format!("{abi} (this host has {})", self.host_abi_version),
            },
        );
        for class in self.manifest["classes"].as_array().into_iter().flatten() {
            let text = |key: &str| class[key].as_str().unwrap_or_default().to_owned();
            let capabilities = class["capabilities"].as_array().into_iter().flatten();
            let capabilities: Vec<_> = capabilities.filter_map(Value::as_str).collect();
            let with = match capabilities.is_empty() {
                true => String::new(),
                false => format!(", can {}", capabilities.join(", ")),
            };
            fact("class", format!("{} {}{with}", text("kind"), text("name")));
        }
        fact(
            "source",
            match p.builtin {
                true => "built in".to_owned(),
                false => p.path.clone(),
            },
        );
        fact("sha256", p.sha256.clone());
        for path in &self.paths {
            let size = match path.size {
                0 => String::new(),
                size => format!(", {}, of {}", bytes(size), stamp(path.modified_ms)),
            };
            let owner = format!("{}:{} {}", path.uid, path.gid, path.mode);
            fact("trusted by", format!("{owner} {}{size}", path.path));
        }
        for dependency in &self.dependencies {
            let name = match dependency.kind {
                "directory" => "searches",
                _ => "pulls in",
            };
            fact(name, dependency.text(&p.path));
        }
        fact("log level", self.log_level.clone());
        for used in &self.uses {
            let layers = match used.layers.is_empty() {
                true => "no layers".to_owned(),
                false => format!("layers {}", used.layers.join(", ")),
            };
            let level = match used.log_level.is_empty() {
                true => String::new(),
                false => format!(", log level {}", used.log_level),
            };
            fact(
                "used by",
                format!("engine {}: {layers}{level}", used.engine),
            );
        }
        if let Some(h) = &self.helper {
            let pid = match h.pid {
                0 => String::new(),
                pid => format!("process {pid}; "),
            };
            fact(
                "helper",
                format!(
                    "{pid}{} calls, {} failed; {} processes, {} died, {} replaced since they had grown",
                    h.calls, h.failures, h.starts, h.deaths, h.recycled
                ),
            );
        }
        let rows: Vec<_> = self.metrics.iter().flat_map(metric_rows).collect();
        if !rows.is_empty() {
            lines.push(table(
                &["METRIC", "PROCESS", "VALUE", "UNIT", "ABOUT"],
                rows,
            ));
        }
        for incident in &self.incidents {
            lines.push(format!(
                "{} in {}: {}",
                stamp(incident.at_ms),
                incident.process,
                incident.what
            ));
            lines.extend(incident.log.iter().map(|line| format!("    | {line}")));
        }
        lines.join("\n")
    }
}

fn metric_rows(of: &MetricsRow) -> Vec<Vec<String>> {
    let samples = of.metrics.as_array().into_iter().flatten();
    samples
        .map(|sample| {
            let text = |key: &str| sample[key].as_str().unwrap_or_default().to_owned();
            let value = match &sample["histogram"] {
                Value::Null => {
                    let number = sample["counter"].as_f64().or(sample["gauge"].as_f64());
                    number.map_or_else(String::new, |n| n.to_string())
                }
                histogram => {
                    let counts = histogram["counts"].as_array().into_iter().flatten();
                    let count: u64 = counts.filter_map(Value::as_u64).sum();
                    let sum = histogram["sum"].as_f64().unwrap_or(0.0);
                    match count {
                        0 => "0 times".to_owned(),
                        n => format!("{n} times, mean {:.3e}", sum / n as f64),
                    }
                }
            };
            vec![
                text("name"),
                of.process.clone(),
                value,
                text("unit"),
                text("help"),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_known_is_shown() {
        let detail = PluginDetail::from(host::PluginInspectResponse {
            plugin: Some(host::Plugin {
                name: "bdev-acme".to_owned(),
                version: "1.2".to_owned(),
                abi_version: "1.0".to_owned(),
                path: "/p/acme.so".to_owned(),
                state: host::PluginState::Quarantined.into(),
                since_ms: 86_400_000,
                ..host::Plugin::default()
            }),
            manifest: r#"{"classes": [{"kind": "bdev", "name": "acme", "capabilities": ["scan"]}]}"#
                .to_owned(),
            paths: vec![host::PluginPath {
                path: "/p/acme.so".to_owned(),
                uid: 7,
                mode: 0o644,
                size: 2048,
                ..host::PluginPath::default()
            }],
            dependencies: [
                (host::PluginDependencyKind::Directory, "/p/lib", "/p/acme.so", ""),
                (host::PluginDependencyKind::Library, "/p/lib/liba.so", "/p/acme.so", "it is bad"),
                (host::PluginDependencyKind::System, "/lib/libc.so.6", "/p/lib/liba.so", ""),
                (host::PluginDependencyKind::Missing, "", "/p/acme.so", ""),
            ]
            .map(|(kind, path, needed_by, refusal)| host::PluginDependency {
                name: "libz.so".to_owned(),
                needed_by: needed_by.to_owned(),
                kind: kind.into(),
                path: (!path.is_empty()).then(|| host::PluginPath {
                    path: path.to_owned(),
                    mode: 0o755,
                    ..host::PluginPath::default()
                }),
                refusal: refusal.to_owned(),
            })
            .to_vec(),
            log_level: "debug".to_owned(),
            uses: vec![host::PluginUse {
                engine: 1,
                layers: vec!["stats".to_owned()],
                log_level: "info".to_owned(),
            }],
            metrics: vec![host::PluginMetrics {
                process: "helper".to_owned(),
                metrics: r#"[{"name": "n", "unit": "bytes", "help": "H", "counter": 3.0},
                    {"name": "w", "unit": "", "help": "", "histogram": {"bounds": [1.0], "counts": [1, 1], "sum": 4.0}}]"#
                    .to_owned(),
            }],
            incidents: vec![host::PluginIncident {
                process: "engine 1".to_owned(),
                what: "SIGSEGV".to_owned(),
                log: vec!["last words".to_owned()],
                ..host::PluginIncident::default()
            }],
            helper: Some(host::PluginHelper {
                pid: 42,
                ..host::PluginHelper::default()
            }),
            abi_version: "1.1".to_owned(),
        });
        let text = detail.text();
        for words in [
            "bdev-acme 1.2 (quarantined)",
            "1970-01-02T00:00:00Z",
            "1.0 (this host has 1.1)",
            "bdev acme, can scan",
            "7:0 0644 /p/acme.so, 2.0 KiB",
            "searches     0:0 0755 /p/lib",
            "pulls in     0:0 0755 /p/lib/liba.so: NOT TRUSTED, it is bad",
            "pulls in     /lib/libc.so.6, the system's, for /p/lib/liba.so",
            "pulls in     libz.so is found nowhere",
            "DEBUG",
            "engine 1: layers stats, log level INFO",
            "process 42",
            "2 times, mean 2.000e0",
            "in engine 1: SIGSEGV",
            "| last words",
        ] {
            assert!(text.contains(words), "{words:?} is missing in {text}");
        }
        let json = serde_json::to_value(&detail).unwrap();
        assert_eq!(json["name"], "bdev-acme");
        assert_eq!(json["paths"][0]["mode"], "0644");
    }
}
