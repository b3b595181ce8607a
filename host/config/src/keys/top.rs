//! Keys of the file itself, of `transport_config:` and of `plugins:`.

use super::{ABSOLUTE, KeySpec, Kind, PATH, Scope, int, key};

const fn top(name: &'static str, kind: Kind) -> KeySpec {
    key(Scope::Top, name, kind)
}

const fn transport(name: &'static str, kind: Kind) -> KeySpec {
    key(Scope::Transport, name, kind)
}

const fn plugin(name: &'static str, kind: Kind) -> KeySpec {
    key(Scope::Plugin, name, kind)
}

pub(super) const KEYS: &[KeySpec] = &[
    top("name", Kind::Text)
        .default("daos_server")
        .immutable()
        .option("-g/--group")
        .doc("Name of the DAOS system this server belongs to. Letters, digits, '_', '-' and '.'.")
        .example("daos_server"),
    top("access_points", Kind::List)
        .old(&["mgmt_svc_replicas"])
        .default("this host")
        .immutable()
        .doc(
            "Hosts that keep the membership of the system, an odd number of them. A host \
              without a port is reached at `port`.",
        )
        .example("['hostname1:10001', 'hostname2:10001', 'hostname3']"),
    top("port", int(1, 65535))
        .default("10001")
        .option("-p/--port")
        .doc(
            "TCP port of the control plane, and the port assumed for access points and hosts \
              that are named without one.",
        )
        .example("10001"),
    top("control_iface", Kind::Text)
        .default("all interfaces; in insecure mode the loopback")
        .doc(
            "Network interface whose first IPv4 address the control plane listens at, and no \
              other. In insecure mode whoever reaches it may administer this node.",
        )
        .example("eth0"),
    top("transport_config", Kind::Group).doc(
        "Certificates of the control plane. `daos_server cert init` makes a working set. \
              Key files must not be wider than 0400, certificates not wider than 0664.",
    ),
    transport("allow_insecure", Kind::Bool)
        .default("false")
        .option("-i/--insecure")
        .doc(
            "Talk without TLS. For laptops and tests: the daemon then listens on loopback only, \
              unless control_iface names another interface.",
        )
        .example("false"),
    transport("client_cert_dir", PATH)
        .default("/etc/daos/certs/clients")
        .doc("Directory of the certificates of agents, whose credentials are checked with them.")
        .example("/etc/daos/certs/clients"),
    transport("ca_cert", PATH)
        .default("/etc/daos/certs/daosCA.crt")
        .doc("Certificate of the authority that signed all components.")
        .example("/etc/daos/certs/daosCA.crt"),
    transport("cert", PATH)
        .default("/etc/daos/certs/server.crt")
        .doc("Certificate of this server.")
        .example("/etc/daos/certs/server.crt"),
    transport("key", PATH)
        .default("/etc/daos/certs/server.key")
        .doc("Private key of this server.")
        .example("/etc/daos/certs/server.key"),
    transport("server_name", Kind::Text)
        .default("server")
        .doc("Common name that a server's certificate must carry.")
        .example("server"),
    top("fault_path", Kind::Text)
        .default("/<hostname>")
        .immutable()
        .doc("Fault domain of this host: a path from the widest domain to the host.")
        .example("/vcdu0/rack1/hostname"),
    top("fault_cb", PATH)
        .default("none")
        .immutable()
        .doc("Program that prints the fault domain of this host, instead of fault_path.")
        .example("/etc/daos/fault_domain.sh")
        .alternative(),
    top("fabric_ifaces", Kind::List)
        .default(
            "chosen: the interface of the engine's NUMA node, else the first Ethernet interface",
        )
        .doc(
            "Fabric interfaces: one for all servers, or one per server in their order. Servers \
              with a fabric_iface of their own ignore it. An interface that is down is never \
              chosen; the loopback only in insecure mode, when nothing else is up.",
        )
        .example("[qib0, qib1]"),
    top("provider", Kind::Text)
        .default("the best of the interfaces: ofi+psm2, ofi+verbs;ofi_rxm, else ofi+tcp or tcp")
        .doc(
            "Fabric provider for all servers. The part before '+' chooses the fabric \
              plugin (`ofi+...` is libfabric); `tcp` is the plugin for plain sockets.",
        )
        .example("ofi+verbs;ofi_rxm"),
    top("fabric_iface", Kind::Text)
        .default("see fabric_ifaces")
        .doc("One fabric interface for all servers without one of their own.")
        .example("qib0")
        .alternative(),
    top("fabric_iface_port", int(1, 65535))
        .default("a free one, when the engine starts")
        .doc(
            "Fabric port for all servers without one of their own. Only useful when no two \
              servers share an interface.",
        )
        .example("31416")
        .alternative(),
    top("scm_mount_path", ABSOLUTE)
        .default("/mnt/daos")
        .doc(
            "Directory under which SCM mount points are made: <path>/<server index> for \
              servers without scm_mount when this key is given, and for servers that are \
              planned automatically.",
        )
        .example("/mnt/daosa"),
    top("bdev_include", Kind::List)
        .old(&["nvme_include"])
        .default("all NVMe controllers without active mounts")
        .immutable()
        .doc("Only use NVMe controllers with these PCI addresses. Colons or dots.")
        .example("['0000:81:00.0', '0000:81:00.1', '0000.82.00.0']"),
    top("bdev_exclude", Kind::List)
        .old(&["nvme_exclude"])
        .default("none")
        .immutable()
        .doc("Never use NVMe controllers with these PCI addresses, whatever bdev_include says.")
        .example("['0000:81:00.1']"),
    top("hyperthreads", Kind::Bool)
        .default("false")
        .doc("Bind service threads to hyperthreads instead of to physical cores only.")
        .example("true"),
    top("socket_dir", PATH)
        .default("/var/run/daos_server")
        .option("-d/--socket_dir")
        .doc("Directory of the unix sockets between the daemon and its engines.")
        .example("/var/run/daos_server"),
    top("nr_hugepages", int(0, 16_777_216))
        .default("1024")
        .doc(
            "Number (not size) of hugepages that `storage prepare` allocates for plugins that \
              need them, spread over the NUMA nodes; the total for all servers.",
        )
        .example("4096"),
    top(
        "control_log_mask",
        Kind::Word(&["INFO", "DISABLED", "ERROR", "WARN", "DEBUG", "TRACE"]),
    )
    .default("INFO")
    .doc("Least important message that the control plane logs.")
    .example("ERROR"),
    top("control_log_file", PATH)
        .default("standard output")
        .doc("File that the log of the control plane is appended to.")
        .example("/tmp/daos_control.log"),
    top("control_log_json", Kind::Bool)
        .default("false")
        .doc("Log one JSON object per line.")
        .example("false"),
    top("user_name", Kind::Text)
        .default("the user that starts the daemon")
        .doc(
            "User that runs the data plane and owns formatted storage when the daemon is \
              started as root.",
        )
        .example("daosuser"),
    top("group_name", Kind::Text)
        .default("the group of user_name")
        .doc("Group that goes with user_name.")
        .example("daosgroup"),
    top("modules", Kind::Text)
        .default("all modules of the engine")
        .option("-m/--modules")
        .doc("Comma-separated modules that engines load.")
        .example("vos,rdb,rsvc,security,mgmt,dtx,pool,cont,obj,rebuild"),
    top("attach", PATH)
        .default("none")
        .option("-a/--attach_info")
        .doc(
            "File in which engines find attach information of a system started without a \
              management service.",
        )
        .example("/tmp/attach_info"),
    top("plugins_dir", ABSOLUTE)
        .default("../lib/daos/plugins beside the directory of daos_server, if it exists")
        .option("--plugins-dir")
        .doc(
            "Directory of plugins (.so files). It and all directories above it must belong to \
              root, or to the daemon's user, and be writable by nobody else.",
        )
        .example("/usr/lib/daos/plugins"),
    top("plugins", Kind::Group)
        .default("every plugin found is allowed")
        .doc(
            "Which plugins may be loaded, by name. When this key is given, others are refused, \
              built-in ones too. May also be written as a list of names.",
        ),
    plugin("name", Kind::Text).doc("Name of the plugin, when `plugins:` is written as a list."),
    plugin("sha256", Kind::List)
        .default("any content")
        .doc("SHA-256 of the file, 64 hexadecimal digits, or a list of several.")
        .example("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
    plugin("settings", Kind::Group)
        .default("none")
        .doc("Free settings that are handed to the plugin."),
    plugin("log_mask", Kind::Text)
        .default("that of the log")
        .doc(
            "Level of the plugin's log lines, wherever it works: in helpers, whose lines go to the \
             log of the control plane, and in engines. `daos_shell server set-logmasks` changes it \
             at run time.",
        )
        .example("DEBUG"),
    top("engine_path", ABSOLUTE)
        .default("daos_io_server beside daos_server")
        .doc("Program that serves the data plane; the upstream DAOS engine can take its place.")
        .example("/usr/bin/daos_io_server"),
    top("engine_conf_format", Kind::Word(&["json", "text"]))
        .default("json")
        .doc(
            "Form of daos_nvme.conf, the list of block devices that an engine reads: json as SPDK has it since 2020 \
             and the engines of DAOS 2.x and ours read it, text for an engine_path from 2019. Takes effect at a format.",
        )
        .example("json")
        .alternative(),
    top("state_dir", ABSOLUTE)
        .default("/var/lib/daos_server as root, else daos_server under XDG_STATE_HOME")
        .option("--state-dir")
        .doc(
            "What the daemon keeps over restarts: quarantine, leases, membership, burn-in \
              results.",
        )
        .example("/var/lib/daos_server"),
    top("telemetry_port", int(1, 65535))
        .default("no endpoint")
        .doc(
            "TCP port of the Prometheus endpoint, on loopback, or where control_iface says. One that is taken is told in \
              the log.",
        )
        .example("9191"),
    top("servers", Kind::Group)
        .old(&["engines"])
        .default("one server per NUMA node, planned from a scan and shown before format")
        .doc("One entry per engine. With entries, nothing is assigned automatically."),
];
