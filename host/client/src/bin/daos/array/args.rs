//! The command line of `daos array`.

use crate::cli::ContainerArgs;
use crate::parse;
use clap::{Args, Subcommand};
use daos_client::{ObjectId, RECORD_SIZE_MAX};
use std::path::PathBuf;

/// Which array.
#[derive(Args)]
pub(crate) struct ArrayArgs {
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// Number of the object: HI.LO or just LO.
    #[arg(value_parser = parse::object_id)]
    pub(crate) object: ObjectId,
    /// Distribution key.
    pub(crate) dkey: String,
    /// Attribute key.
    pub(crate) akey: String,
}

#[derive(Subcommand)]
pub(crate) enum ArrayCommand {
    /// Write records, from a file or standard input; they are durable when the command ends.
    ///
    /// What is written is cut into parts of at most 1 MiB, each of which is written as a whole or not
    /// at all. If the command fails, any of them may have been written.
    #[command(
        after_help = "Examples:\n  daos array put --pool $POOL --cont $CONT 0.1 run7 samples --record-size 8 --file \
                      samples.bin\n  producer | daos array put --pool $POOL --cont $CONT 0.1 run7 samples --offset 4096"
    )]
    Put {
        #[command(flatten)]
        array: ArrayArgs,
        /// Number of the first record.
        #[arg(long, default_value_t = 0, value_name = "RECORD")]
        offset: u64,
        /// Bytes per record. The first write of an array decides [default: as the array has, 1 for a
        /// new one].
        #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..=RECORD_SIZE_MAX))]
        record_size: Option<u64>,
        /// File with the records; - is standard input.
        #[arg(short, long, default_value = "-", hide_default_value = true)]
        file: PathBuf,
    },
    /// Read records, to standard output or into a file. Those that nobody wrote are zeros.
    ///
    /// What others write meanwhile may be there in part: each part of up to 1 MiB is read at once, all
    /// of them are not.
    Get {
        #[command(flatten)]
        array: ArrayArgs,
        /// Number of the first record.
        #[arg(long, default_value_t = 0, value_name = "RECORD")]
        offset: u64,
        /// Most records to read [default: up to the end of the array].
        #[arg(long, value_name = "RECORDS")]
        count: Option<u64>,
        /// File to write; it gets its name when all records have come and been checked.
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// Remove records, all at once; they read as zeros then, or the array ends before them.
    ///
    /// `daos object punch` removes whole arrays.
    Punch {
        #[command(flatten)]
        array: ArrayArgs,
        /// Number of the first record.
        #[arg(long, value_name = "RECORD")]
        offset: u64,
        /// Records to remove [default: up to the end of the array].
        #[arg(long, value_name = "RECORDS")]
        count: Option<u64>,
    },
    /// Show how large the records of an array are and how many there are up to the last one.
    Stat {
        #[command(flatten)]
        array: ArrayArgs,
    },
}
