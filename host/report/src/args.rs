//! Arguments that `daos_server` and `daos_shell` have in common, with one text for both.

use clap::Args;

/// Of `storage scan`.
#[derive(Args, Clone, Debug)]
pub struct StorageScanArgs {
    /// Show drivers, formats, who uses a device, and whatever else the plugins know.
    #[arg(short, long)]
    pub verbose: bool,
    /// Ask each device for its health. `daos_shell storage scan --health` asks engines for that of what they hold.
    #[arg(long, visible_alias = "nvme-health")]
    pub health: bool,
}

/// Of `network scan`.
#[derive(Args, Clone, Debug)]
pub struct NetworkScanArgs {
    /// Provider to show, as in the configuration, or "all" [default: that of the configuration of each host]
    #[arg(short, long, value_name = "PROVIDER|all")]
    pub provider: Option<String>,
    /// List the providers that the plugins of a host have, usable or not, instead of interfaces.
    #[arg(long)]
    pub providers: bool,
}
