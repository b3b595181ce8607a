//! Layers over block devices.

use crate::{FaultRow, table};
use daos_proto::host;
use serde::Serialize;
use serde_json::Value;

/// Answer of `storage layers`.
#[derive(Clone, Debug, Serialize)]
pub struct LayersReport {
    /// The engines that were asked.
    pub engines: Vec<EngineLayers>,
}

/// Layers of one engine.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // the message's own documentation stands in layers.proto
pub struct EngineLayers {
    pub engine: u32,
    pub rank: u32,
    pub fault: Option<FaultRow>,
    pub devices: Vec<DeviceLayers>,
}

/// Layers of one device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // as above
pub struct DeviceLayers {
    pub number: u32,
    pub layers: Value,
}

impl From<host::LayersResponse> for LayersReport {
    fn from(response: host::LayersResponse) -> Self {
        let device = |device: host::DeviceLayers| DeviceLayers {
            number: device.number,
            // What is no JSON is shown as the text it is.
            layers: serde_json::from_str(&device.layers)
                .unwrap_or_else(|_| Value::from(device.layers)),
        };
        let engine = |engine: host::EngineLayers| EngineLayers {
            engine: engine.engine,
            rank: engine.rank,
            fault: engine.fault.as_ref().map(FaultRow::from),
            devices: engine.devices.into_iter().map(device).collect(),
        };
        Self {
            engines: response.engines.into_iter().map(engine).collect(),
        }
    }
}

impl LayersReport {
    /// Whether every engine did what it was asked.
    pub fn is_complete(&self) -> bool {
        self.engines.iter().all(|engine| engine.fault.is_none())
    }

    /// The layers for people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for engine in &self.engines {
            if let Some(fault) = &engine.fault {
                lines.push(format!(
                    "engine {} (rank {}): {fault}",
                    engine.engine, engine.rank
                ));
            }
            for device in &engine.devices {
                let name = format!(
                    "engine {} (rank {}), device {}",
                    engine.engine, engine.rank, device.number
                );
                match device.layers.as_array().map_or(&[][..], Vec::as_slice) {
                    [] => lines.push(format!("{name}: no layers")),
                    layers => {
                        lines.push(format!("{name}:"));
                        lines.extend(layers.iter().flat_map(layer));
                    }
                }
            }
        }
        lines.join("\n")
    }
}

/// The lines about one layer.
fn layer(layer: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    match layer["spec"]["fault"]["rules"].as_array() {
        Some(_) => {
            let seed = &layer["spec"]["fault"]["seed"];
            lines.push(format!("  fault (seed {seed})"));
            for state in layer["rules"].as_array().into_iter().flatten() {
                lines.push(format!("    fired {}: {}", state["fired"], state["rule"]));
            }
        }
        None if layer["spec"].get("delay").is_some() => {
            lines.push(format!("  delay: {}", layer["spec"]["delay"]));
        }
        None => {
            lines.push("  stats".to_owned());
            let rows = layer["stats"].as_array().into_iter().flatten();
            let us = |row: &Value, key: &str| format!("{:.1}", row[key].as_f64().unwrap_or(0.0));
            let rows: Vec<_> = rows
                .map(|row| {
                    vec![
                        row["op"].as_str().unwrap_or("").to_owned(),
                        row["size"].as_str().unwrap_or("").to_owned(),
                        row["count"].to_string(),
                        row["failed"].to_string(),
                        us(row, "p50_us"),
                        us(row, "p99_us"),
                        us(row, "p999_us"),
                        us(row, "max_us"),
                    ]
                })
                .collect();
            if !rows.is_empty() {
                lines.push(table(
                    &[
                        "OP", "SIZE", "COUNT", "FAILED", "P50 US", "P99 US", "P99.9 US", "MAX US",
                    ],
                    rows,
                ));
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_figures_are_shown() {
        let layers = r#"[{"spec": {"fault": {"seed": 7, "rules": [{"do": "flip"}]}}, "rules": [{"rule": {"do": "flip"}, "fired": 3}]},
            {"spec": {"delay": {"seed": 0, "rules": [{"fixed_us": 9}]}}},
            {"spec": {"stats": {}}, "stats": [{"op": "read", "size": "4k", "count": 12, "failed": 1, "p50_us": 8.25}]}]"#;
        let report = LayersReport::from(host::LayersResponse {
            engines: vec![host::EngineLayers {
                devices: vec![
                    host::DeviceLayers {
                        number: 0,
                        layers: layers.to_owned(),
                    },
                    host::DeviceLayers {
                        number: 1,
                        layers: "[]".to_owned(),
                    },
                ],
                ..host::EngineLayers::default()
            }],
        });
        assert!(report.is_complete());
        let text = report.text();
        for words in ["fired 3", "fixed_us", "read", "8.2", "device 1: no layers"] {
            assert!(text.contains(words), "{words:?} is missing in {text}");
        }
    }
}
