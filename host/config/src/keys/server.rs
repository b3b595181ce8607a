//! Keys of one entry of `servers:` and of the tiers of DAOS 2.x.

use super::{ABSOLUTE, KeySpec, Kind, PATH, Scope, int, key};

const fn server(name: &'static str, kind: Kind) -> KeySpec {
    key(Scope::Server, name, kind)
}

const fn tier(name: &'static str, kind: Kind) -> KeySpec {
    key(Scope::Tier, name, kind)
}

/// 1 PB; keeps sizes in bytes far away from overflow.
const MAX_GB: u64 = 1_000_000;

pub(super) const KEYS: &[KeySpec] = &[
    server("rank", int(0, 4_294_967_294))
        .default("assigned when the server joins")
        .immutable()
        .doc("Rank of the engine in the system.")
        .example("0"),
    server("targets", int(0, 1024))
        .default("0, one per core")
        .immutable()
        .option("-t/--targets")
        .doc("Number of storage targets, one pinned thread each, from first_core on.")
        .example("20"),
    server("nr_xs_helpers", int(0, 2))
        .default("2")
        .immutable()
        .option("-x/--xshelpernr")
        .doc("Offload threads per target.")
        .example("0"),
    server("first_core", int(0, 65_535))
        .default("0")
        .immutable()
        .option("-f/--firstcore")
        .doc("Core of the first target.")
        .example("1"),
    server("name", Kind::Text)
        .default("the name of the system")
        .option("-g/--group")
        .doc("System name that this engine is given.")
        .example("daos_server"),
    server("socket_dir", PATH)
        .default("the socket_dir of the file")
        .option("-d/--socket_dir")
        .doc("Directory of this engine's sockets.")
        .example("/var/run/daos_server"),
    server("modules", Kind::Text)
        .default("the modules of the file")
        .option("-m/--modules")
        .doc("Comma-separated modules that this engine loads.")
        .example("vos,rdb,rsvc,security,mgmt,dtx,pool,cont,obj,rebuild"),
    server("log_mask", Kind::Text)
        .default("INFO")
        .doc(
            "Log mask of the engine (D_LOG_MASK): LEVEL, or LEVEL,SUBSYSTEM=LEVEL,... Levels: \
              DEBUG, DBUG, INFO, NOTE, WARN, ERROR, ERR, CRIT, ALRT, FATAL, EMRG, EMIT.",
        )
        .example("WARN"),
    server("log_file", PATH)
        .default("the log of the control plane")
        .doc("Log file of the engine (D_LOG_FILE). Must differ between servers.")
        .example("/tmp/daos_server1.log"),
    server("env_vars", Kind::List)
        .default("none")
        .doc(
            "Environment variables of the engine: a list of NAME=value, or bare lines of \
              NAME=value below the key.",
        )
        .example("['ABT_MAX_NUM_XSTREAMS=100', 'CRT_TIMEOUT=30']"),
    server("provider", Kind::Text)
        .default("the provider of the file")
        .doc("Fabric provider of this engine.")
        .example("ofi+psm2"),
    server("fabric_iface", Kind::Text)
        .default("from fabric_ifaces or fabric_iface of the file")
        .doc("Fabric interface of this engine.")
        .example("qib0"),
    server("fabric_iface_port", int(1, 65_535))
        .default("a free one, when the engine starts")
        .doc("Fabric port of this engine. Only give it if there is a specific need.")
        .example("20000"),
    server("scm_mount", ABSOLUTE)
        .default("<scm_mount_path>/<index> if scm_mount_path is given, else an error")
        .option("-s/--storage")
        .doc(
            "Mount point of the storage-class memory of this engine; not shared with another \
              server.",
        )
        .example("/mnt/daos/1"),
    server("scm_class", Kind::Text)
        .default("dcpm")
        .doc(
            "Class of the SCM plugin: dcpm for NVDIMMs, ram for a tmpfs, or any class that a \
              plugin declares.",
        )
        .example("dcpm"),
    server("scm_list", Kind::List)
        .default("none")
        .doc(
            "SCM devices; class dcpm takes one. Without it, the namespace that was formatted for scm_mount, and for a \
              format one that nobody uses, of the engine's NUMA node where there is one.",
        )
        .example("[/dev/pmem0]"),
    server("scm_size", int(1, MAX_GB))
        .default("none")
        .doc("Size in GB, for class ram. 0 is refused: for a tmpfs it would mean unlimited.")
        .example("16")
        .alternative(),
    server("bdev_class", Kind::Text)
        .default("nvme")
        .immutable()
        .doc(
            "Class of the block device plugin: nvme (SPDK), file, kdev (kernel block devices), \
              malloc (memory), or any class that a plugin declares.",
        )
        .example("nvme"),
    server("bdev_list", Kind::List)
        .default("none; with bdev_class: nvme in the entry, what is usable at the format")
        .immutable()
        .doc(
            "Devices, not shared with another server: PCI addresses (colons or dots) for nvme, \
              absolute paths of files for file, of device nodes for kdev. Usable are controllers that were handed over, \
              are in nobody's use, in bdev_include (if it is there) and not in bdev_exclude; the superblock keeps the list. \
              Of several servers without a list each takes the devices of its NUMA node (first_core).",
        )
        .example("['0000:81:00.0']"),
    server("bdev_number", int(1, 1024))
        .default("none")
        .immutable()
        .doc("Number of devices, for class malloc.")
        .example("1")
        .alternative(),
    server("bdev_size", int(1, MAX_GB))
        .default("none")
        .immutable()
        .doc("Size of each device in GB, for classes malloc and file.")
        .example("16")
        .alternative(),
    server("bdev_layers", Kind::Group)
        .default("none")
        .doc(
            "Layers over the block devices, the first one on top: fault (errors, torn and dropped \
              writes, flipped bits, removal), delay, stats; see docs/layers.md. For tests: a layer of \
              faults destroys data.",
        )
        .example("[{stats: {}}]")
        .alternative(),
    server("storage", Kind::Group)
        .doc(
            "The tiered form of DAOS 2.x, accepted with a warning: an SCM tier and at most one \
              block device tier.",
        )
        .alternative(),
    tier("class", Kind::Text)
        .doc("Class of the tier's plugin.")
        .example("ram"),
    tier("scm_mount", ABSOLUTE).doc("See scm_mount of a server."),
    tier("scm_list", Kind::List).doc("See scm_list of a server."),
    tier("scm_size", int(1, MAX_GB)).doc("See scm_size of a server."),
    tier("bdev_list", Kind::List).doc("See bdev_list of a server."),
    tier("bdev_layers", Kind::Group).doc("See bdev_layers of a server."),
    tier("bdev_number", int(1, 1024)).doc("See bdev_number of a server."),
    tier("bdev_size", int(1, MAX_GB)).doc("See bdev_size of a server."),
];
