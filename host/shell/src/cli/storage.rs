//! Commands about storage.

use clap::{Args, Subcommand};
use daos_report::StorageScanArgs;

#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// List the devices that the hosts' plugins see and that their engines hold.
    #[command(visible_alias = "s")]
    Scan(StorageScanArgs),
    /// Format the storage named in the hosts' configuration and start their engines.
    ///
    /// Every device is checked before the first byte is written. Storage that was formatted
    /// before, or that holds anything not written by a DAOS server, is refused unless a flag
    /// allows it.
    #[command(visible_alias = "f")]
    Format(FormatArgs),
    /// Update the firmware of the SSDs in the hosts' configuration. No engine may use them; the deployment guide's
    /// spelling of `firmware update`.
    ///
    /// Every device must be of the model and run the revision that are named; one that is not is refused, and the others
    /// are updated. The image is sent in pieces, committed, the controller reset, and the revision looked at.
    #[command(name = "fwupdate", visible_alias = "u", after_help = crate::firmware::FWUPDATE_HELP)]
    FwUpdate(crate::firmware::FwUpdateArgs),
    /// Ask running engines for their block devices and pools.
    #[command(subcommand, visible_alias = "q")]
    Query(StorageQueryCommand),
    /// Burn block devices in: a long, slow, verified load that finds bad ones before data is on them.
    #[command(subcommand)]
    BurnIn(Box<crate::burnin::BurnInCommand>),
    /// Inject faults and delays into block devices of running engines, and measure them.
    #[command(subcommand)]
    Layers(LayersCommand),
}

#[derive(Subcommand)]
pub(crate) enum LayersCommand {
    /// List the layers over the engines' block devices, and what they have done.
    List(LayersArgs),
    /// Put other layers over the devices; they last until the engine restarts.
    ///
    /// LAYERS is a list as for the key bdev_layers, in YAML or JSON, or @FILE. The first one lies on top. A layer
    /// of faults is for tests: it destroys data.
    #[command(
        after_help = "Examples:\n  daos_shell -i storage layers set '[{stats: {}}]'\n  daos_shell -i storage layers set -r 0 \
                      '[{fault: {seed: 7, rules: [{do: error, op: [read], probability: 0.01}]}}]'\n  daos_shell -i storage layers set \
                      '[{delay: {rules: [{op: [write], lognormal_us: [80, 2000]}]}}]'\n\nFaults: error, torn, drop, flip, remove; keys \
                      of a rule: op, first_block, last_block, skip, count, probability, status. Delays: fixed_us, uniform_us, \
                      normal_us, lognormal_us."
    )]
    Set(LayersSetArgs),
    /// Remove all layers.
    Clear(LayersArgs),
}

#[derive(Args)]
pub(crate) struct LayersArgs {
    /// Engines by rank [default: all of the hosts].
    #[arg(short, long, value_delimiter = ',', value_name = "RANK")]
    pub(crate) ranks: Vec<u32>,
}

#[derive(Args)]
pub(crate) struct LayersSetArgs {
    /// The layers.
    #[arg(value_name = "LAYERS|@FILE")]
    pub(crate) layers: String,
    #[command(flatten)]
    pub(crate) which: LayersArgs,
}

#[derive(Args)]
pub(crate) struct FormatArgs {
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Destroy storage that a DAOS server formatted before; its engine must not run.
    #[arg(long)]
    pub(crate) reformat: bool,
    /// Destroy content that is not ours: file systems, partition tables, non-empty files.
    #[arg(long)]
    pub(crate) overwrite_foreign: bool,
    /// Erase each SSD by its own command NVMe Format first; its size of blocks stays as it is.
    ///
    /// Without it, all blocks are deallocated and the ends of the device zeroed, which takes seconds and touches nothing
    /// else. The command erases the whole medium and may take minutes. It is refused where it would reach
    /// another namespace (some controllers only format all of theirs), or a namespace that other controllers may have,
    /// and by devices that do not have it.
    #[arg(long)]
    pub(crate) nvme_format: bool,
    /// Show what would be done and what stands in the way; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Agree to the engines that a server has planned because its configuration names none: the hash that --dry-run and
    /// `system query` show. Several for hosts that differ. Needed with --force; without it the plan is shown and asked about.
    #[arg(long, value_delimiter = ',', value_name = "HASH,...")]
    pub(crate) accept_plan: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum StorageQueryCommand {
    /// List the block devices that engines use, with the UUIDs in their labels.
    ListDevices {
        #[command(flatten)]
        which: StorageQueryArgs,
        /// Their health, too.
        #[arg(long)]
        health: bool,
    },
    /// Show the health of block devices that engines use.
    DeviceHealth(StorageQueryArgs),
    /// List the pools on each engine.
    ListPools(StorageQueryArgs),
}

#[derive(Args, Clone)]
pub(crate) struct StorageQueryArgs {
    /// Only of this rank.
    #[arg(short, long, value_name = "RANK")]
    pub(crate) rank: Option<u32>,
    /// Only the device or pool of this UUID.
    #[arg(short, long, value_name = "UUID")]
    pub(crate) uuid: Option<uuid::Uuid>,
}
