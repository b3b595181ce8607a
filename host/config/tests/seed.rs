//! What the deployment guide says a user types is accepted and means what the guide says.

mod common;

use common::{good, one, parse, schemas};
use daos_config::{Code, Config, ControlLogMask, EnvVar};

/// The listing of the guide, completed with what it leaves out (SCM of both servers) and
/// without the second `fabric_iface_port: 20000` on one interface, which could never be bound.
const GUIDE: &str = r"
name: daos
access_points: ['hostname1:10001','hostname2:10001','hostname3:10001']
port: 10001
transport_config:
  allow_insecure: false
  ca_cert: ./.daos/daosCA.crt
  cert: ./.daos/daos_server.crt
  key: ./.daos/daos_server.key
fault_path: /vcdu0/rack1/hostname
fabric_ifaces: [qib0,qib1]
provider: ofi+verbs;ofi_rxm
scm_mount_path: /mnt/daosa
bdev_include: ['0000:81:00.0','0000:81:00.1','0000:81:00.2','0000:81:00.3']
bdev_exclude: ['0000:81:00.1']
hyperthreads: true
socket_dir: ./.daos/daos_server
nr_hugepages: 4096
control_log_mask: ERROR
control_log_file: /tmp/daos_control.log
servers:
  -
    rank: 0
    targets: 20
    nr_xs_helpers: 0
    first_core: 1
    fabric_iface: qib0
    fabric_iface_port: 20000
    log_mask: WARN
    log_file: /tmp/daos_server1.log
    env_vars:
      ABT_MAX_NUM_XSTREAMS=100

      CRT_TIMEOUT=30
    scm_mount: /mnt/daos/1
    scm_list: [/dev/pmem0]
    bdev_class: nvme
    bdev_list: ['0000:81:00.0'] # generate regular nvme.conf
  -
    rank: 1
    targets: 20
    nr_xs_helpers: 0
    first_core: 21
    fabric_iface: qib0
    log_mask: WARN
    log_file: /tmp/daos_server2.log
    env_vars:
      ABT_MAX_NUM_XSTREAMS=200
      CRT_TIMEOUT=100
    scm_mount: /mnt/daos/2
    scm_list: [/dev/pmem1]
    bdev_class: file
    bdev_list: [/tmp/daos-bdev1,/tmp/daos-bdev2]
    bdev_size: 16
";

fn env(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn the_guide_is_accepted_without_a_warning() {
    let loaded = parse(GUIDE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings, []);
    let c = loaded.config;
    assert_eq!(c.check_classes(&schemas()), []);
    assert_eq!(c.control_log_mask, ControlLogMask::Error);
    assert_eq!(c.nr_hugepages, 4096);
    assert_eq!(
        c.transport_config.ca_cert.to_str(),
        Some("./.daos/daosCA.crt")
    );
    let s = &c.servers[0];
    assert_eq!(
        s.env_vars,
        [env("ABT_MAX_NUM_XSTREAMS", "100"), env("CRT_TIMEOUT", "30")]
    );
    assert_eq!(
        (s.rank, s.targets, s.nr_xs_helpers, s.first_core),
        (Some(0), 20, 0, Some(1))
    );
    assert_eq!(s.scm_class, "dcpm");
    assert_eq!(s.name, "daos");
    let s = &c.servers[1];
    assert_eq!(
        s.env_vars,
        [
            env("ABT_MAX_NUM_XSTREAMS", "200"),
            env("CRT_TIMEOUT", "100")
        ]
    );
    assert_eq!((s.bdev_class.as_str(), s.bdev_size), ("file", Some(16)));
}

#[test]
fn defaults_are_those_of_the_guide() {
    let c = good("servers:\n- scm_mount: /mnt/daos\n");
    assert_eq!(c.port, 10001);
    assert_eq!(c.nr_hugepages, 1024);
    assert_eq!(c.socket_dir.to_str(), Some("/var/run/daos_server"));
    assert!(!c.hyperthreads && !c.transport_config.allow_insecure);
    let s = &c.servers[0];
    assert_eq!((s.nr_xs_helpers, s.first_core, s.targets), (2, None, 0));
    assert_eq!(
        (s.scm_class.as_str(), s.bdev_class.as_str()),
        ("dcpm", "nvme")
    );
    assert_eq!(s.socket_dir, c.socket_dir);
    assert_eq!(c.access_point_addresses(), ["localhost:10001"]);
}

#[test]
fn access_points_without_a_port_use_the_configured_one() {
    let c = good("port: 10005\naccess_points: [a, 'b:1', '[fe80::1]']\n");
    assert_eq!(
        c.access_point_addresses(),
        ["a:10005", "b:1", "[fe80::1]:10005"]
    );
}

#[test]
fn fabric_interfaces_may_be_separated_by_commas() {
    let servers = "servers:\n- scm_mount: /a\n- scm_mount: /b\n";
    for (text, expected) in [
        ("fabric_ifaces: qib0, qib1\n", ["qib0", "qib1"]),
        ("fabric_ifaces: qib0\n", ["qib0", "qib0"]),
        ("fabric_ifaces: [qib0]\n", ["qib0", "qib0"]),
        ("fabric_iface: ib7\n", ["ib7", "ib7"]),
    ] {
        let c = good(&format!("{text}{servers}"));
        let found: Vec<_> = c
            .servers
            .iter()
            .map(|s| s.fabric_iface.as_deref().unwrap())
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn hyperthreads_may_be_a_number() {
    for (text, value) in [("1", true), ("0", false), ("yes", true), ("Off", false)] {
        assert_eq!(good(&format!("hyperthreads: {text}\n")).hyperthreads, value);
    }
}

#[test]
fn dots_in_pci_addresses_become_colons() {
    let c = good(
        "bdev_include: [0000.81.00.0, 0000:DA:00.0]\n\
         servers:\n- scm_mount: /a\n  bdev_list: ['0000.da.00.0']\n",
    );
    assert_eq!(c.bdev_include, ["0000:81:00.0", "0000:da:00.0"]);
    assert_eq!(c.servers[0].bdev_list, ["0000:da:00.0"]);
}

#[test]
fn mount_points_are_made_below_scm_mount_path() {
    let c = good("scm_mount_path: /mnt/daosa\nservers:\n- rank: 0\n- rank: 1\n");
    let mounts: Vec<_> = c
        .servers
        .iter()
        .map(|s| s.scm_mount.to_str().unwrap())
        .collect();
    assert_eq!(mounts, ["/mnt/daosa/0", "/mnt/daosa/1"]);
    assert_eq!(one("servers:\n- rank: 0\n").code, Code::MissingValue);
}

#[test]
fn an_empty_file_means_all_defaults() {
    for text in ["", "\n", "# only comments\n", "---\n", "\u{feff}", "{}"] {
        let loaded = parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(loaded.config, Config::default(), "{text:?}");
    }
}

#[test]
fn scm_size_zero_is_never_unlimited() {
    let d = one("servers:\n- scm_mount: /a\n  scm_class: ram\n  scm_size: 0\n");
    assert_eq!(
        (d.code, d.line, d.column),
        (Code::OutOfRange, Some(4), Some(13))
    );
    assert!(d.hint.unwrap().contains("unlimited"));
}

#[test]
fn environment_values_keep_their_equal_signs() {
    let c = good("servers:\n- scm_mount: /a\n  env_vars: ['A=x=y', B=]\n");
    assert_eq!(c.servers[0].env_vars, [env("A", "x=y"), env("B", "")]);
    let c = good("servers:\n- scm_mount: /a\n  env_vars: |\n    A=x y\n    B=2\n");
    assert_eq!(c.servers[0].env_vars, [env("A", "x y"), env("B", "2")]);
}

#[test]
fn both_generations_of_names_are_accepted_with_a_warning() {
    let text = "mgmt_svc_replicas: [a]\nengines:\n- scm_mount: /a\n";
    let loaded = parse(text).unwrap();
    assert_eq!(loaded.config.access_points[0].host, "a");
    assert_eq!(loaded.config.servers.len(), 1);
    let places: Vec<_> = loaded.warnings.iter().map(|w| (w.code, w.line)).collect();
    assert_eq!(places, [(Code::OldName, Some(1)), (Code::OldName, Some(2))]);
    let d = one("access_points: [a]\nmgmt_svc_replicas: [b]\n");
    assert_eq!((d.code, d.line), (Code::ConflictingKeys, Some(2)));
    assert_eq!(d.related[0].line, Some(1));
}

#[test]
fn tiers_are_translated() {
    let tiers = "servers:\n- targets: 2\n  storage:\n  - class: ram\n    scm_mount: /mnt/daos\n    \
                 scm_size: 4\n  - class: file\n    bdev_list: [/tmp/a]\n    bdev_size: 2\n";
    let flat = "servers:\n- targets: 2\n  scm_class: ram\n  scm_mount: /mnt/daos\n  scm_size: 4\n  \
                bdev_class: file\n  bdev_list: [/tmp/a]\n  bdev_size: 2\n";
    let loaded = parse(tiers).unwrap();
    assert_eq!(loaded.config, good(flat));
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(
        (loaded.warnings[0].code, loaded.warnings[0].line),
        (Code::OldName, Some(3))
    );
    assert_eq!(loaded.config.check_classes(&schemas()), []);
    let tiers = "servers:\n- storage:\n  - class: dcpm\n    scm_mount: /mnt/daos\n    scm_list: [/dev/pmem0]\n\
                 \x20 - class: malloc\n    bdev_number: 2\n    bdev_size: 4\n\
                 \x20   bdev_layers: [{stats: {}}]\n";
    let flat = "servers:\n- scm_class: dcpm\n  scm_mount: /mnt/daos\n  scm_list: [/dev/pmem0]\n  \
                bdev_class: malloc\n  bdev_number: 2\n  bdev_size: 4\n  \
                bdev_layers: [{stats: {}}]\n";
    assert_eq!(parse(tiers).unwrap().config, good(flat));
}

#[test]
fn tiers_that_cannot_be_translated_say_why() {
    let server = |tiers: &str| format!("servers:\n- storage:\n{tiers}");
    let scm = "  - {class: ram, scm_mount: /a, scm_size: 1}\n";
    for (tiers, code, word) in [
        (
            format!("{scm}  - {{class: nvme, bdev_list: [], bdev_roles: [meta]}}\n"),
            Code::NotExpressible,
            "bdev_roles",
        ),
        (
            format!("{scm}  - {{class: nvme, bdev_busid_range: '0x80-0x8f'}}\n"),
            Code::NotExpressible,
            "bdev_busid_range",
        ),
        (
            format!("{scm}  - {{class: nvme}}\n  - {{class: nvme}}\n"),
            Code::NotExpressible,
            "3 tiers",
        ),
        (
            "  - {class: ram, scm_mount: /a, bdev_list: [/x]}\n".to_owned(),
            Code::NotExpressible,
            "first tier is SCM",
        ),
        (
            "  - {scm_mount: /a, scm_size: 1}\n".to_owned(),
            Code::MissingValue,
            "no class",
        ),
        (
            format!("{scm}  scm_class: ram\n"),
            Code::ConflictingKeys,
            "scm_class",
        ),
    ] {
        let text = server(&tiers);
        let found = common::bad(&text);
        let hit = found
            .iter()
            .find(|d| d.code == code && d.message.contains(word));
        let hit = hit.unwrap_or_else(|| panic!("{found:#?}\n{text}"));
        assert!(hit.line.is_some() && hit.hint.is_some());
    }
}
