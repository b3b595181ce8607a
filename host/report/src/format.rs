//! Results of a format.

use crate::FaultRow;
use crate::plugins::kind_text;
use daos_proto::{ctl::ResponseStatus, host};
use serde::Serialize;

/// Result of one target of a format.
#[derive(Clone, Debug, Serialize)]
pub struct FormatRow {
    /// Engine index.
    pub engine: u32,
    /// "scm" or "bdev".
    pub kind: &'static str,
    /// Class in the config.
    pub class: String,
    /// Mount point, PCI address, path or name.
    pub address: String,
    /// Status name: `CTRL_SUCCESS`, `CTRL_ERR_NVME` ...
    pub status: String,
    /// What failed.
    pub fault: Option<FaultRow>,
    /// Remark beside a success.
    pub info: String,
    /// Milliseconds it took.
    pub elapsed_ms: u64,
}

impl From<host::FormatResult> for FormatRow {
    fn from(result: host::FormatResult) -> Self {
        let status = status_text(result.status());
        let target = result.target.unwrap_or_default();
        Self {
            engine: target.engine,
            kind: kind_text(target.kind()),
            class: target.class,
            address: target.address,
            status,
            fault: result.fault.as_ref().map(FaultRow::from),
            info: result.info,
            elapsed_ms: result.elapsed_ms,
        }
    }
}

impl FormatRow {
    /// The line that the deployment guide shows.
    pub fn text(&self) -> String {
        let label = match (self.kind, self.class.as_str()) {
            ("scm", _) => "mntpoint",
            (_, "nvme") => "pci-address",
            _ => "device",
        };
        let mut line = format!("\t{label} {}: status {}", self.address, self.status);
        if let Some(fault) = &self.fault {
            line += &format!("\n\t    {fault}").replace("\n    ", "\n\t    ");
        }
        if !self.info.is_empty() {
            line += &format!(" ({})", self.info);
        }
        line
    }
}

/// Name of a status in the spelling of the deployment guide (`CTRL_SUCCESS`).
pub fn status_text(status: ResponseStatus) -> String {
    status.as_str_name().replacen("CTL_", "CTRL_", 1)
}
