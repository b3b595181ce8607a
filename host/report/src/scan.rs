//! Devices of a host.

use crate::plugins::kind_text;
use crate::{FaultRow, HealthRow, bytes, gigabytes, table};
use daos_proto::host;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Answer of `storage scan`.
#[derive(Clone, Debug, Serialize)]
pub struct ScanReport {
    /// The devices, by kind, class and address.
    pub devices: Vec<DeviceRow>,
    /// Plugins that could not be asked, with the reason.
    pub faults: BTreeMap<String, FaultRow>,
    /// What plugins remark that is about no device alone.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, Vec<String>>,
}

/// One device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in host.proto
pub struct DeviceRow {
    pub kind: &'static str,
    pub class: String,
    pub plugin: String,
    pub address: String,
    pub model: String,
    pub serial: String,
    pub firmware: String,
    pub size_bytes: u64,
    pub block_size: u32,
    pub numa_node: Option<i32>,
    pub use_state: &'static str,
    pub use_reason: String,
    pub details: BTreeMap<String, String>,
    pub fault: Option<FaultRow>,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthRow>,
}

impl From<host::StorageScanDetailResponse> for ScanReport {
    fn from(response: host::StorageScanDetailResponse) -> Self {
        let mut notes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for note in response.notes {
            notes.entry(note.plugin).or_default().push(note.text);
        }
        Self {
            notes,
            devices: response.devices.into_iter().map(DeviceRow::from).collect(),
            faults: response
                .faults
                .into_iter()
                .map(|f| (f.plugin, FaultRow::from(&f.fault.unwrap_or_default())))
                .collect(),
        }
    }
}

impl From<host::Device> for DeviceRow {
    fn from(device: host::Device) -> Self {
        Self {
            kind: kind_text(device.kind()),
            use_state: match device.r#use() {
                host::DeviceUse::Free => "free",
                host::DeviceUse::Formatted => "formatted",
                host::DeviceUse::Engine => "engine",
                host::DeviceUse::Busy => "busy",
                host::DeviceUse::Foreign => "foreign",
                host::DeviceUse::Unspecified => "",
            },
            details: device
                .details
                .into_iter()
                .map(|d| (d.key, d.value))
                .collect(),
            fault: device.fault.as_ref().map(FaultRow::from),
            health: device.health.map(HealthRow::from),
            class: device.class,
            plugin: device.plugin,
            address: device.address,
            model: device.model,
            serial: device.serial,
            firmware: device.firmware,
            size_bytes: device.size_bytes,
            block_size: device.block_size,
            numa_node: device.numa_node,
            use_reason: device.use_reason,
        }
    }
}

impl ScanReport {
    /// What is there in all, by kind and class: hosts with the same hardware say the same.
    pub fn totals(&self) -> String {
        let mut totals: BTreeMap<(usize, &str), (usize, u64)> = BTreeMap::new();
        const KINDS: [(&str, &str); 3] = [
            ("scm", "SCM"),
            ("bdev", "Block devices"),
            ("fabric", "Fabric interfaces"),
        ];
        for device in &self.devices {
            let Some(kind) = KINDS.iter().position(|(kind, _)| *kind == device.kind) else {
                continue;
            };
            let (count, size) = totals.entry((kind, &device.class)).or_default();
            *count += 1;
            *size += device.size_bytes;
        }
        let mut text = String::new();
        for ((kind, class), (count, size)) in totals {
            let size = match size {
                0 => String::new(),
                size => format!(", {}", bytes(size)),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\t{}: {count} {class}{size}", KINDS[kind].1);
        }
        if self.devices.is_empty() {
            text += "\tno devices found\n";
        }
        for (plugin, fault) in &self.faults {
            let _ = writeln!(text, "\tplugin {plugin} could not be asked: {fault}");
        }
        for (plugin, note) in self.remarks() {
            let _ = writeln!(text, "\tplugin {plugin}: {note}");
        }
        text.trim_end().to_owned()
    }

    /// The scan for people, without what only experts want to see.
    pub fn text(&self) -> String {
        self.text_with(false)
    }

    /// The scan for people: NVMe controllers as the deployment guide shows them, then block
    /// devices, memory and interfaces as tables, then health, then what could not be asked.
    pub fn text_with(&self, verbose: bool) -> String {
        let mut text = String::new();
        let of = |kind: &'static str| self.devices.iter().filter(move |d| d.kind == kind);
        let nvme: Vec<_> = of("bdev").filter(|d| d.class == "nvme").collect();
        controllers(&mut text, &nvme, verbose);
        let others: Vec<_> = of("bdev").filter(|d| d.class != "nvme").collect();
        section(
            &mut text,
            "Block devices:",
            &[
                "ADDRESS", "CLASS", "SIZE", "BLOCK", "NUMA", "MODEL", "SERIAL", "USE",
            ],
            others.into_iter().map(|d| {
                vec![
                    d.address.clone(),
                    d.class.clone(),
                    bytes(d.size_bytes),
                    d.block_size.to_string(),
                    node(d),
                    d.model.clone(),
                    d.serial.clone(),
                    usage(d),
                ]
            }),
        );
        section(
            &mut text,
            "SCM:",
            &["ADDRESS", "CLASS", "SIZE", "NUMA", "USE"],
            of("scm").map(|d| {
                vec![
                    d.address.clone(),
                    d.class.clone(),
                    bytes(d.size_bytes),
                    node(d),
                    usage(d),
                ]
            }),
        );
        section(
            &mut text,
            "Fabric interfaces:",
            &["INTERFACE", "PROVIDER", "NUMA", "DETAILS"],
            of("fabric").map(|d| {
                let details: Vec<_> = d.details.iter().map(|(k, v)| format!("{k}={v}")).collect();
                vec![
                    d.address.clone(),
                    d.class.clone(),
                    node(d),
                    details.join(" "),
                ]
            }),
        );
        if verbose {
            let more = of("bdev")
                .chain(of("scm"))
                .filter(|d| d.class != "nvme" && !d.details.is_empty());
            section(
                &mut text,
                "Details:",
                &["ADDRESS", "CLASS", "DETAILS"],
                more.map(|d| vec![d.address.clone(), d.class.clone(), details(d)]),
            );
        }
        let health = self.devices.iter().filter_map(|d| {
            let health = d.health.as_ref()?;
            Some(vec![d.address.clone(), d.class.clone(), health.line()])
        });
        section(
            &mut text,
            "Health:",
            &["ADDRESS", "CLASS", "HEALTH"],
            health,
        );
        if self.devices.is_empty() {
            text += "no devices found\n";
        }
        for (plugin, fault) in &self.faults {
            let _ = writeln!(text, "\nplugin {plugin} could not be asked: {fault}");
        }
        for (plugin, note) in self.remarks() {
            let _ = writeln!(text, "\nplugin {plugin}: {note}");
        }
        text.trim_end().to_owned()
    }

    fn remarks(&self) -> impl Iterator<Item = (&str, &str)> {
        let notes = self.notes.iter();
        notes.flat_map(|(plugin, notes)| notes.iter().map(|note| (plugin.as_str(), note.as_str())))
    }
}

/// What no column of a device's table has.
fn details(device: &DeviceRow) -> String {
    let without_column: &[(&str, &str)] = match device.kind {
        "scm" => &[
            ("model", &device.model),
            ("serial", &device.serial),
            ("firmware", &device.firmware),
        ],
        _ => &[("firmware", &device.firmware)],
    };
    let told = without_column
        .iter()
        .map(|(name, value)| (*name, value.trim()))
        .filter(|(_, value)| !value.is_empty());
    let more = device.details.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let details: Vec<_> = told.chain(more).collect();
    let details = details.iter().map(|(k, v)| format!("{k}={v}"));
    details.collect::<Vec<_>>().join(" ")
}

/// Controllers, each with its namespaces below it.
fn controllers(text: &mut String, rows: &[&DeviceRow], verbose: bool) {
    if rows.is_empty() {
        return;
    }
    *text += "NVMe SSD controller and constituent namespaces:\n";
    let controller_of = |row: &DeviceRow| {
        let controller = row.address.split('/').next().unwrap_or_default();
        row.details
            .get("controller")
            .cloned()
            .unwrap_or_else(|| controller.to_owned())
    };
    let detail = |row: &DeviceRow, key: &str| row.details.get(key).cloned().unwrap_or_default();
    let mut last = None;
    for row in rows {
        let controller = controller_of(row);
        // Writing to a String cannot fail.
        if last.as_ref() != Some(&controller) {
            let _ = write!(
                text,
                "\tPCI Addr:{controller} Serial:{} Model:{} Fwrev:{} Socket:{}",
                row.serial,
                row.model,
                row.firmware,
                row.numa_node.unwrap_or(-1)
            );
            if verbose {
                let (id, driver) = (detail(row, "pci_id"), detail(row, "driver"));
                let _ = write!(text, " Id:{id} Driver:{driver} Use:{}", usage(row));
            }
            text.push('\n');
        }
        if row.size_bytes > 0 {
            let id = row.details.get("namespace").map_or("1", String::as_str);
            let _ = write!(
                text,
                "\t\tNamespace: id:{id} capacity:{}",
                gigabytes(row.size_bytes)
            );
            if verbose {
                let format = match detail(row, "block_format") {
                    format if format.is_empty() => row.block_size.to_string(),
                    format => format,
                };
                let _ = write!(text, " bytes:{} format:{format}", row.size_bytes);
            }
            text.push('\n');
        }
        last = Some(controller);
    }
}

fn section(
    text: &mut String,
    title: &str,
    headings: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{title}\n{}", table(headings, rows));
    }
}

fn node(device: &DeviceRow) -> String {
    device
        .numa_node
        .map_or_else(|| "-".to_owned(), |n| n.to_string())
}

fn usage(device: &DeviceRow) -> String {
    match (&device.fault, device.use_reason.as_str()) {
        (Some(fault), _) => fault.what.clone(),
        (None, "") => device.use_state.to_owned(),
        (None, reason) => format!("{} ({reason})", device.use_state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(address: &str, size: u64, details: &[(&str, &str)]) -> host::Device {
        host::Device {
            kind: host::Kind::Bdev.into(),
            class: "nvme".to_owned(),
            address: address.to_owned(),
            serial: "PHKS7505005Y750BGN  ".to_owned(),
            model: "INTEL SSDPED1K750GA".to_owned(),
            firmware: "E2010325".to_owned(),
            size_bytes: size,
            block_size: 512,
            numa_node: Some(1),
            r#use: host::DeviceUse::Busy.into(),
            use_reason: "bound to the kernel driver nvme".to_owned(),
            details: details
                .iter()
                .map(|(key, value)| host::Detail {
                    key: (*key).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
            ..host::Device::default()
        }
    }

    #[test]
    fn modules_of_memory_tell_model_and_firmware_only_in_detail() {
        let module = host::Device {
            kind: host::Kind::Scm.into(),
            class: "dcpm".to_owned(),
            ..row("nmem0", 2 << 30, &[("location", "CPU1_DIMM_A2")])
        };
        let report = ScanReport::from(host::StorageScanDetailResponse {
            devices: vec![module],
            ..host::StorageScanDetailResponse::default()
        });
        let told = "model=INTEL SSDPED1K750GA serial=PHKS7505005Y750BGN firmware=E2010325 location=CPU1_DIMM_A2";
        assert!(
            report.text_with(true).contains(told),
            "{}",
            report.text_with(true)
        );
        assert!(!report.text().contains("firmware="));
    }

    #[test]
    fn remarks_of_plugins_come_last_and_once() {
        let note = |plugin: &str, text: &str| host::PluginNote {
            plugin: plugin.to_owned(),
            text: text.to_owned(),
        };
        let report = ScanReport::from(host::StorageScanDetailResponse {
            notes: vec![
                note("scm-dcpm", "ndctl is not installed"),
                note("scm-dcpm", "more"),
            ],
            ..host::StorageScanDetailResponse::default()
        });
        let told =
            "no devices found\n\nplugin scm-dcpm: ndctl is not installed\n\nplugin scm-dcpm: more";
        assert_eq!(report.text(), told);
        assert!(
            report.totals().ends_with("\tplugin scm-dcpm: more"),
            "{}",
            report.totals()
        );
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["notes"]["scm-dcpm"][1], "more");
    }

    #[test]
    fn controllers_are_shown_as_the_guide_shows_them() {
        let of = |namespace| {
            [
                ("controller", "0000:da:00.0"),
                ("namespace", namespace),
                ("driver", "nvme"),
                ("pci_id", "8086:2701"),
                ("block_format", "512+8"),
            ]
        };
        let report = ScanReport::from(host::StorageScanDetailResponse {
            devices: vec![
                row("0000:81:00.0", 0, &[]),
                row("0000:da:00.0/1", 750_156_374_016, &of("1")),
                row("0000:da:00.0/7", 1_600_321_314_816, &of("7")),
            ],
            ..host::StorageScanDetailResponse::default()
        });
        let text = report.text();
        let lines: Vec<&str> = text.lines().collect();
        let tail = "Serial:PHKS7505005Y750BGN   Model:INTEL SSDPED1K750GA Fwrev:E2010325 Socket:1";
        assert_eq!(
            lines,
            [
                "NVMe SSD controller and constituent namespaces:".to_owned(),
                format!("\tPCI Addr:0000:81:00.0 {tail}"),
                format!("\tPCI Addr:0000:da:00.0 {tail}"),
                "\t\tNamespace: id:1 capacity:750".to_owned(),
                "\t\tNamespace: id:7 capacity:1600".to_owned(),
            ]
        );
        let verbose = report.text_with(true);
        assert!(
            verbose.contains("Driver:nvme Use:busy (bound to the kernel driver nvme)"),
            "{verbose}"
        );
        assert!(
            verbose.contains("bytes:750156374016 format:512+8"),
            "{verbose}"
        );
    }
}
