//! What the command-line programs print: the same documents, as text for people and as JSON for
//! scripts, whether they were made on this host or came over the control plane.
//!
//! Every document is a `serde` structure with a `text()`; conversions from the control plane's
//! messages stand beside them.

mod args;
pub mod burnin;
mod engines;
mod envelope;
mod fault;
mod firmware;
mod format;
mod health;
mod layers;
mod manual;
mod network;
mod output;
mod ping;
pub mod plot;
mod plugin_detail;
mod plugins;
mod scan;
mod table;
mod units;

pub use args::{NetworkScanArgs, StorageScanArgs};
pub use engines::{EngineRow, ProposedPlan, ServerRow};
pub use envelope::{Envelope, print_json};
pub use fault::FaultRow;
pub use firmware::{
    FirmwarePlanReport, FirmwareReport, FirmwareResultRow, FirmwareRow, FirmwareSlotRow,
    PlannedFirmwareRow,
};
pub use format::{FormatRow, status_text};
pub use health::HealthRow;
pub use layers::LayersReport;
pub use manual::manual;
pub use network::{NetworkReport, NetworkRow, ProviderRow};
pub use output::{UNREAD, write_out};
pub use ping::{PingReport, PingRow};
pub use plugin_detail::PluginDetail;
pub use plugins::{PluginReport, PluginRow};
pub use scan::{DeviceRow, ScanReport};
pub use table::table;
pub use units::{bytes, gigabytes};
