//! The command line of `storage prepare`.

use clap::Args;

/// Exit code when block devices could not be prepared.
pub(super) const NVME_FAILED: u8 = 3;
/// Exit code when SCM could not be prepared.
pub(super) const SCM_FAILED: u8 = 4;
/// Exit code when neither could.
pub(super) const BOTH_FAILED: u8 = 5;

/// What to prepare, how, and for whom.
#[derive(Args)]
pub(crate) struct PrepareArgs {
    /// Prepare NVMe SSDs only.
    #[arg(short = 'n', long, conflicts_with = "scm_only")]
    pub(crate) nvme_only: bool,
    /// Prepare storage-class memory only.
    #[arg(short = 's', long)]
    pub(crate) scm_only: bool,
    /// Huge pages of the default size to have in all, spread over the NUMA nodes; a larger pool is kept
    /// [default: nr_hugepages of the configuration, 1024]
    #[arg(short = 'p', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(..=16_777_216))]
    pub(crate) hugepages: Option<u64>,
    /// User that shall be able to use the devices [default: who called sudo, else this user]
    #[arg(short = 'u', long, value_name = "USER")]
    pub(crate) target_user: Option<String>,
    /// Only these PCI addresses, with blanks or commas between them [default: bdev_include less bdev_exclude of
    /// the configuration, else all controllers that are not in use]
    #[arg(
        short = 'w',
        long = "pci-whitelist",
        visible_alias = "pci-allowlist",
        value_name = "ADDRESS ..."
    )]
    pub(crate) pci_list: Option<String>,
    /// Namespaces of equal size that each region of persistent memory shall have; there is one region per socket
    /// [default: one, where there is none]
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["nvme_only", "reset"], value_parser = clap::value_parser!(u32).range(1..=8))]
    pub(crate) scm_ns_per_socket: Option<u32>,
    /// Give devices back to the kernel's drivers, and huge pages and permissions back as they were found; destroy
    /// namespaces of persistent memory, and have Intel's modules made Memory Mode at the next boot.
    #[arg(long)]
    pub(crate) reset: bool,
    /// Do not ask. Lifts no guard: what is in use stays untouched.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Tell what would be done, and do nothing.
    #[arg(long, conflicts_with = "status")]
    pub(crate) dry_run: bool,
    /// Show devices, drivers, IOMMU, huge pages and limits, with what mends what is wrong.
    #[arg(long, conflicts_with = "reset")]
    pub(crate) status: bool,
}
