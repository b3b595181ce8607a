//! Command lines of `firmware` and `storage fwupdate`.

use clap::{Args, Subcommand, ValueEnum};
use daos_proto::host::FirmwareSelection;

pub(crate) const FWUPDATE_HELP: &str = "Examples:\n  daos_shell -i -l node1,node2 storage fwupdate -m 'INTEL SSDPED1K750GA' -r E2010325 \
     -p /root/E2010480.bin -s 1\n  daos_shell -i storage fwupdate -m MODEL -r 1.0 -p /root/fw.bin -d 0000:81:00.0 --dry-run\n\n\
     Exit status: 0 if every device of every host has the new firmware (one that runs it only after a power cycle says so), \
     1 if one was refused or failed or a host did not answer, 2 for a wrong command line.";

#[derive(Subcommand)]
pub(crate) enum FirmwareCommand {
    /// List devices with the firmware that runs and what is in their slots.
    #[command(
        visible_alias = "q",
        after_help = "Devices that an engine or anybody else uses are not opened: they are listed with who has them, and \
                      without slots.\n\nExit status: 0 on success, 1 if a device, plugin or host could not be asked, 2 for \
                      a wrong command line."
    )]
    Query(QueryArgs),
    /// Put an image into devices, activate it, and verify that it runs.
    ///
    /// The devices are all that the hosts' plugins find, or those named with --devices; --model and --fwrev leave out
    /// all others. A device that is in use is refused. What would be done is shown first, with the question whether to go
    /// on.
    #[command(
        visible_alias = "u",
        after_help = "Examples:\n  daos_shell -i firmware update --type nvme -p /root/fw.bin -m MODEL --dry-run\n  daos_shell -i \
                      -l node1,node2 firmware update -t nvme -p /root/fw.bin -m MODEL -f 1.0\n\nExit status: 0 if every \
                      device that was meant has the new firmware (one that runs it only after a power cycle says so), 1 if one was refused or failed or a host did not \
                      answer, 2 for a wrong command line."
    )]
    Update(UpdateArgs),
}

/// What has firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// SSDs.
    Nvme,
    /// Modules of persistent memory.
    Scm,
    /// Both.
    #[default]
    All,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Scm => "scm",
            Self::All => "all",
        }
    }
}

/// Which devices are meant.
#[derive(Args)]
pub(crate) struct Which {
    /// Devices, as ADDRESS or CLASS:ADDRESS [default: all that the hosts' plugins find]
    #[arg(short, long, value_delimiter = ',', value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    /// Only devices of this model.
    #[arg(
        short,
        long,
        visible_alias = "model-id",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) model: String,
    /// Only devices that run this firmware revision.
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) fwrev: String,
}

impl Which {
    pub(crate) fn selection(&self, kind: Kind) -> FirmwareSelection {
        FirmwareSelection {
            r#type: kind.word().to_owned(),
            devices: self.devices.clone(),
            configured: false,
            model: self.model.clone(),
            revision: self.fwrev.clone(),
            filter: true,
        }
    }
}

#[derive(Args)]
pub(crate) struct QueryArgs {
    /// What to ask.
    #[arg(short = 't', long = "type", value_enum, default_value_t)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Args)]
pub(crate) struct UpdateArgs {
    /// What to update; an image fits one kind of device.
    #[arg(short = 't', long = "type", value_enum)]
    pub(crate) kind: Kind,
    /// The image: its whole path on each host.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Slot that the image goes to; 0 = each device chooses.
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=7))]
    pub(crate) slot: u32,
    /// Revision that must run afterwards [default: any but the one before]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) new_fwrev: String,
    #[command(flatten)]
    pub(crate) how: How,
}

/// Whether to ask, and whether to do it.
#[derive(Args)]
pub(crate) struct How {
    /// Show what would be done and what stands in the way; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args)]
pub(crate) struct FwUpdateArgs {
    /// Model that every device must be.
    #[arg(short = 'm', long = "nvme-model", value_name = "MODEL")]
    pub(crate) model: String,
    /// Firmware revision that every device must run now.
    #[arg(short = 'r', long = "nvme-fw-rev", value_name = "REVISION")]
    pub(crate) revision: String,
    /// The image: its whole path on each host.
    #[arg(short = 'p', long = "nvme-fw-path", value_name = "FILE")]
    pub(crate) path: String,
    /// Slot that the image goes to; 0 = each device chooses.
    #[arg(short = 's', long = "nvme-fw-slot", value_name = "SLOT", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=7))]
    pub(crate) slot: u32,
    /// Devices, as ADDRESS or CLASS:ADDRESS [default: those of the hosts' configuration]
    #[arg(short, long, value_delimiter = ',', value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    /// Do not ask for confirmation. Skips the question, no check.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Show what would be done and what stands in the way; write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
