//! The command line.

use crate::array::ArrayCommand;
use crate::parse::{self, Sizes};
use clap::{Args, Parser, Subcommand};
use daos_client::{EngineUri, ObjectId, Uuid};
use std::path::{Path, PathBuf};

/// Stores and fetches objects of a DAOS storage node, measures it, and proves that nothing it
/// acknowledged is lost.
///
/// An object belongs to a container of a pool and has a number "HI.LO". `daos_shell pool create`
/// makes pools, `daos container create` containers; both are named by label or UUID. Values have two
/// keys: all values under one distribution key (dkey) live on one target of the engine; an attribute
/// key (akey) names a value under it, or an array.
#[derive(Parser)]
#[command(
    name = "daos",
    version,
    after_help = "Examples:\n  daos -a node1:10001 bench --verify\n  daos bench --size 64..64KiB --seconds 10 --histogram --svg latency.svg\n  daos container create --pool tank weather\n  \
                  daos object put --pool tank --cont weather 0.1 monday sky sunny\n  daos object put --pool tank \
                  --cont weather 0.1 monday photo --file photo.jpg\n  daos object get --pool tank --cont weather \
                  0.1 monday sky\n  daos object list --pool tank --cont weather 0.1\n  daos workload write \
                  --count 10000 acked.txt; daos workload verify acked.txt\n\nWhere there is one pool, --pool may \
                  be left out. The connection is neither encrypted nor authenticated yet: use it over networks you trust.\n\nExit status: 0 if all went \
                  well, 1 if something failed, 2 for a wrong command line, 3 if data was lost or changed."
)]
pub(crate) struct Cli {
    /// Servers that know where the engine is; the first that answers is asked. The port defaults
    /// to 10001.
    #[arg(
        short = 'a',
        long,
        global = true,
        value_delimiter = ',',
        value_name = "HOST[:PORT]",
        default_value = "localhost:10001",
        value_parser = parse::host_port
    )]
    pub(crate) access_point: Vec<String>,

    /// Address of the engine itself, as its log shows it; no server is asked.
    #[arg(
        long,
        global = true,
        value_name = "URI",
        conflicts_with = "access_point"
    )]
    pub(crate) uri: Option<EngineUri>,

    /// Which engine, where the server runs several [default: the lowest rank].
    #[arg(long, global = true)]
    pub(crate) rank: Option<u32>,

    /// Name of the system that the server must belong to.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) system: Option<String>,

    /// Network interface or address of this machine to use [default: the fabric plugin chooses].
    #[arg(long, global = true, default_value = "", hide_default_value = true)]
    pub(crate) interface: String,

    /// Directory with daosCA.crt, agent.crt and agent.key, to ask servers that were started without -i.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cert_dir: Option<PathBuf>,

    /// Directory of fabric plugins; providers tcp and sockets need none.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugins_dir: Option<PathBuf>,

    /// Seconds that one operation may take, including the restart of a dead engine.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) deadline: u64,

    /// Print JSON: {"response", "error", "status"}.
    #[arg(short, long, global = true)]
    pub(crate) json: bool,

    /// Say more on standard error; up to three times. RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Store, fetch, list and remove values.
    #[command(subcommand, visible_alias = "obj")]
    Object(ObjectCommand),
    /// Write, read and punch arrays: records of a fixed size, numbered from 0, under an akey.
    #[command(subcommand)]
    Array(ArrayCommand),
    /// Make, list and destroy containers.
    #[command(subcommand, visible_alias = "cont")]
    Container(ContainerCommand),
    /// Look at pools; `daos_shell pool` makes and destroys them.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Show the engine's targets and how full they are.
    Query,
    /// Measure puts and gets, and check what comes back.
    Bench(BenchArgs),
    /// Write values and keep a record of every acknowledgement; later, prove that all are there.
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// Print a completion script for a shell.
    Completion {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), or write one per command.
    Manpage {
        /// Directory for the pages of all commands.
        #[arg(long, value_name = "DIR")]
        dir: Option<std::path::PathBuf>,
    },
}

/// A container.
#[derive(Args)]
pub(crate) struct ContainerArgs {
    /// Pool [default: the only one].
    #[arg(long, value_name = "LABEL|UUID")]
    pub(crate) pool: Option<String>,
    /// Container.
    #[arg(long, value_name = "LABEL|UUID")]
    pub(crate) cont: String,
    /// Keys are given and printed as hexadecimal digits.
    #[arg(long)]
    pub(crate) hex_keys: bool,
}

#[derive(Subcommand)]
pub(crate) enum ContainerCommand {
    /// Make a container; prints its UUID.
    #[command(visible_alias = "c")]
    Create {
        /// Its label: letters, digits and . _ : - [default: none].
        label: Option<String>,
        /// Its UUID; who repeats a command with it succeeds again [default: a new one].
        #[arg(long)]
        uuid: Option<Uuid>,
        /// Pool [default: the only one].
        #[arg(long, value_name = "LABEL|UUID")]
        pool: Option<String>,
    },
    /// List the containers of a pool.
    #[command(visible_alias = "ls")]
    List {
        /// Pool [default: the only one].
        #[arg(long, value_name = "LABEL|UUID")]
        pool: Option<String>,
    },
    /// Show a container.
    Query {
        /// The container.
        #[arg(value_name = "LABEL|UUID")]
        container: String,
        /// Pool [default: the only one].
        #[arg(long, value_name = "LABEL|UUID")]
        pool: Option<String>,
    },
    /// Destroy a container with everything in it; its space is free when the command ends.
    #[command(visible_alias = "d")]
    Destroy {
        /// The container.
        #[arg(value_name = "LABEL|UUID")]
        container: String,
        /// Pool [default: the only one].
        #[arg(long, value_name = "LABEL|UUID")]
        pool: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum PoolCommand {
    /// List the pools of the engine.
    #[command(visible_alias = "ls")]
    List,
    /// Show how full a pool is on this engine.
    Query {
        /// Pool [default: the only one].
        #[arg(value_name = "LABEL|UUID")]
        pool: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum ObjectCommand {
    /// Store a value of up to 1 MiB; it is durable when the command ends.
    ///
    /// The value is the last argument, or the content of a file, or standard input.
    Put {
        #[command(flatten)]
        container: ContainerArgs,
        /// Number of the object: HI.LO or just LO.
        #[arg(value_parser = parse::object_id)]
        object: ObjectId,
        /// Distribution key.
        dkey: String,
        /// Attribute key.
        akey: String,
        /// The value itself.
        #[arg(conflicts_with = "file")]
        value: Option<String>,
        /// File with the value; - is standard input.
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// Fetch a value, to standard output or into a file.
    Get {
        #[command(flatten)]
        container: ContainerArgs,
        /// Number of the object: HI.LO or just LO.
        #[arg(value_parser = parse::object_id)]
        object: ObjectId,
        /// Distribution key.
        dkey: String,
        /// Attribute key.
        akey: String,
        /// File to write, only after the whole value has come and been checked.
        #[arg(short, long)]
        file: Option<PathBuf>,
    },
    /// List the dkeys of an object, or the akeys of a dkey, in byte order.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        container: ContainerArgs,
        /// Number of the object: HI.LO or just LO.
        #[arg(value_parser = parse::object_id)]
        object: ObjectId,
        /// Distribution key.
        dkey: Option<String>,
        /// Most keys to list; 0 = all.
        #[arg(long, default_value_t = 0)]
        limit: usize,
    },
    /// Remove a value, or everything under a dkey, or with --all the whole object.
    Punch {
        #[command(flatten)]
        container: ContainerArgs,
        /// Number of the object: HI.LO or just LO.
        #[arg(value_parser = parse::object_id)]
        object: ObjectId,
        /// Distribution key.
        #[arg(required_unless_present = "all")]
        dkey: Option<String>,
        /// Attribute key; without it, all of the dkey.
        akey: Option<String>,
        /// The whole object.
        #[arg(long, conflicts_with = "dkey")]
        all: bool,
    },
}

/// How values are written.
#[derive(Args)]
pub(crate) struct LoadArgs {
    /// Pool [default: the only one].
    #[arg(long, value_name = "LABEL|UUID")]
    pub(crate) pool: Option<String>,
    /// Container [default: a new one].
    #[arg(long, value_name = "LABEL|UUID")]
    pub(crate) cont: Option<String>,
    /// Bytes of a value: a number (4096, 4KiB) or a range. In a range small and large values are
    /// equally likely on a logarithmic scale, and its limits and those of the protocol come often.
    #[arg(long, default_value = "1..1MiB", value_name = "SIZE|MIN..MAX")]
    pub(crate) size: Sizes,
    /// Operations under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) depth: u32,
    /// Number that keys, sizes and bytes of the values follow from [default: random].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Compare every byte that comes back with what was written. Checksums are always checked.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Operations per phase [default: 2000, without end if --seconds is given].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ops: Option<u64>,
    /// Most seconds per phase.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) seconds: Option<u64>,
    /// Values that exist at once: more puts than these overwrite. Rounded up to a multiple of
    /// --depth.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,
    /// Print the distribution of latencies.
    #[arg(long)]
    pub(crate) histogram: bool,
    /// Draw latencies, by percentile and by frequency, into a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Leave the values there, and the container that was made for them.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Write values, appending one line to a record for each acknowledgement.
    ///
    /// Ends with an error at the first write that fails; what was acknowledged until then stands
    /// in the record. Several runs may share a record.
    Write(WriteArgs),
    /// Read back the newest acknowledged value of every key in a record; fail on any that is lost
    /// or changed.
    ///
    /// A value that was under way when its writer ended may be there or not, both are right.
    Verify(VerifyArgs),
}

/// The record, either way.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RecordArgs {
    /// The record.
    record: Option<PathBuf>,
    /// The record.
    #[arg(long, value_name = "FILE")]
    acked: Option<PathBuf>,
}

impl RecordArgs {
    pub(crate) fn path(&self) -> &Path {
        self.record
            .as_deref()
            .or(self.acked.as_deref())
            .unwrap_or(Path::new(""))
    }
}

#[derive(Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Writes.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Keys that are written in turn, each with many versions. Rounded up to a multiple of
    /// --depth.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Reads under way at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) depth: u32,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn documented_command_lines_are_accepted() {
        let uuids = "--pool 4f3c1b6e-0000-4000-8000-000000000001 --cont 4f3c1b6e-0000-4000-8000-000000000002";
        for line in [
            "--access-point 127.0.0.1:10001 bench --verify",
            "bench --ops 100 --size 4KiB --depth 1 --json",
            "bench --verify --seconds 1 --rank 0",
            "bench --histogram --svg latency.svg",
            &format!("object put {uuids} 0.1 monday weather sunny"),
            &format!("object put {uuids} 0.1 monday photo --file photo.jpg"),
            &format!("object get {uuids} 1 monday weather -f out"),
            "object get --pool tank --cont weather 1 monday sky",
            "object list --cont weather 1",
            "container create",
            "container create --pool tank weather",
            "cont create --uuid 4f3c1b6e-0000-4000-8000-000000000002",
            "cont list --json",
            "container query weather --pool tank",
            "container destroy weather",
            "pool list",
            "pool query tank",
            "bench --pool tank --cont weather",
            &format!("object list {uuids} 0.1"),
            &format!("array put {uuids} 0.1 run7 samples --record-size 8 --file samples.bin"),
            &format!("array put {uuids} 0.1 run7 samples --offset 4096"),
            &format!("array get {uuids} 0.1 run7 samples --offset 4096 --count 2 -f out"),
            &format!("array punch {uuids} 0.1 run7 samples --offset 9"),
            &format!("array stat {uuids} 0.1 run7 samples --json"),
            &format!("object punch {uuids} 0.1 --all"),
            &format!("object punch {uuids} 0.1 monday"),
            "workload write --seed 7 --count 10 --acked file",
            "workload write --count 10 file",
            "workload verify --acked file",
            "--uri tcp://00ff query",
            "completion bash",
            "manpage",
        ] {
            let words = std::iter::once("daos").chain(line.split(' '));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for line in [
            "bench --size 2MiB",
            "bench --depth 0",
            "workload verify",
            "array punch --pool 4f3c1b6e-0000-4000-8000-000000000001 --cont 4f3c1b6e-0000-4000-8000-000000000002 0.1 d a",
            "array put --pool 4f3c1b6e-0000-4000-8000-000000000001 --cont 4f3c1b6e-0000-4000-8000-000000000002 0.1 d a --record-size 0",
            "workload verify a --acked b",
            "--uri tcp:/00 query",
            "--access-point a --uri tcp://00 query",
            "object get --pool tank 0.1 d a",
            "container destroy",
            "object punch --pool 4f3c1b6e-0000-4000-8000-000000000001 --cont 4f3c1b6e-0000-4000-8000-000000000002 0.1",
        ] {
            let words = std::iter::once("daos").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line} was accepted");
        }
    }
}
