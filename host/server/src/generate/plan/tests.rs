use super::super::render::render;
use super::*;
use crate::cli::{Cli, Command, ConfigCommand};
use clap::Parser as _;
use daos_config::Overrides;
use daos_topology::{Interface, Node};
use std::path::Path;

fn args(line: &str) -> GenerateArgs {
    let words = ["daos_server", "config", "generate"];
    let cli = Cli::try_parse_from(words.into_iter().chain(line.split_whitespace())).unwrap();
    match cli.command {
        Some(Command::Config(ConfigCommand::Generate(args))) => args,
        _ => unreachable!("that is the command"),
    }
}

fn device(class: &str, address: &str, node: u32) -> Device {
    Device {
        class: class.to_owned(),
        address: address.to_owned(),
        numa_node: Some(node),
    }
}

/// Two nodes of eight cores with InfiniBand, Ethernet, persistent memory and NVMe controllers each.
fn big() -> Found {
    let interface = |name: &str, index, link, node| Interface {
        name: name.to_owned(),
        index,
        link,
        is_up: true,
        is_physical: true,
        numa_node: Some(node),
        speed_mbps: None,
        rdma: Vec::new(),
    };
    let interfaces = vec![
        interface("eth0", 2, Link::Ethernet, 0),
        interface("ib0", 3, Link::Infiniband, 0),
        interface("ib1", 4, Link::Infiniband, 1),
    ];
    let offer = |provider: &str, interface: &str| Offer {
        provider: provider.to_owned(),
        // The built-in plugin stands for libfabric's, which is no part of this program.
        plugin: "fabric-tcp".to_owned(),
        interface: interface.to_owned(),
        is_up: Some(true),
        addresses: Some(vec!["192.0.2.1".to_owned()]),
        is_loopback: false,
    };
    Found {
        nodes: vec![
            Node {
                number: 0,
                cores: (0..8).collect(),
            },
            Node {
                number: 1,
                cores: (8..16).collect(),
            },
        ],
        cores: (0..16).collect(),
        interfaces,
        offers: vec![
            offer("tcp", "eth0"),
            offer("ofi+verbs;ofi_rxm", "ib0"),
            offer("ofi+verbs;ofi_rxm", "ib1"),
            offer("tcp", "ib0"),
        ],
        scm: vec![
            device("dcpm", "/dev/pmem0", 0),
            device("dcpm", "/dev/pmem1", 1),
            device("ram", "node0", 0),
        ],
        unprepared: Vec::new(),
        bdevs: vec![
            device("nvme", "0000:01:00.0", 0),
            device("nvme", "0000:02:00.0", 0),
            device("nvme", "0000:81:00.0", 1),
            device("kdev", "/dev/sdb", 0),
        ],
        memory: 64 << 30,
        files: (PathBuf::from("/var/tmp"), 100_000_000_000),
        scm_base: PathBuf::from("/mnt/daos"),
        socket_dir: None,
        notes: Vec::new(),
    }
}

struct Built {
    plugins: Plugins,
    config: Config,
    _dir: tempfile::TempDir,
}

fn built() -> Built {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.state_dir = Some(dir.path().to_owned());
    let plugins = Plugins::open(&config, std::path::Path::new("/nowhere/bin/x")).unwrap();
    Built {
        plugins,
        config,
        _dir: dir,
    }
}

fn planned(found: &Found, line: &str) -> anyhow::Result<Plan> {
    let built = built();
    plan(&built.plugins, &built.config, &args(line), found)
}

#[test]
fn each_engine_gets_what_is_on_its_node() {
    let plan = planned(&big(), "").unwrap();
    assert_eq!(plan.provider, "ofi+verbs;ofi_rxm");
    let of = |n: usize| {
        let e = &plan.engines[n];
        (
            e.numa_node,
            e.first_core,
            e.targets,
            e.fabric_iface.as_deref().unwrap_or_default(),
            e.scm_list.join(","),
            e.bdev_list.join(","),
        )
    };
    let pci = |text: &str| text.to_owned();
    assert_eq!(
        of(0),
        (Some(0), 0, 7, "ib0", pci("/dev/pmem0"), pci("0000:01:00.0"))
    );
    assert_eq!(
        of(1),
        (Some(1), 8, 7, "ib1", pci("/dev/pmem1"), pci("0000:81:00.0"))
    );
    assert_ne!(
        plan.engines[0].fabric_iface_port,
        plan.engines[1].fabric_iface_port
    );
    let left = plan.notes.iter().any(|n| n.contains("0000:02:00.0"));
    assert!(left, "{:?}", plan.notes);
}

#[test]
fn the_text_says_why_and_is_a_configuration() {
    let mut found = big();
    found.socket_dir = Some(PathBuf::from("/run/user/7/it's mine"));
    found.notes.push("two\nlines: [".to_owned());
    let plan = planned(&found, "-r a,b,c").unwrap();
    let text = render(&plan, None);
    let flat = text.replace("\n  # ", " ");
    assert!(
        flat.contains("ofi+verbs;ofi_rxm: there is InfiniBand"),
        "{text}"
    );
    assert!(
        flat.contains("ib0 (InfiniBand) is on NUMA node 0"),
        "{text}"
    );
    let loaded = Config::parse(&text, "generated", &Overrides::default()).unwrap();
    assert_eq!(loaded.warnings, [], "{text}");
    let config = loaded.config;
    assert_eq!(config.socket_dir, found.socket_dir.unwrap());
    assert_eq!(config.access_points.len(), 3);
    assert_eq!(config.servers.len(), 2);
    assert_eq!(config.servers[1].fabric_iface.as_deref(), Some("ib1"));
    assert_eq!(config.servers[1].bdev_list, ["0000:81:00.0"]);
    assert_eq!(config.servers[1].first_core, Some(8));
}

#[test]
fn options_narrow_the_choice() {
    let ethernet = planned(&big(), "-c ethernet").unwrap();
    assert_eq!(ethernet.provider, "tcp");
    assert_eq!(ethernet.engines[1].fabric_iface.as_deref(), Some("eth0"));
    assert!(ethernet.engines[1].fabric_reason.contains("only Ethernet"));

    let ram = planned(&big(), "-t -s -e 1 -f 4711").unwrap();
    assert_eq!(ram.engines.len(), 1);
    assert_eq!(ram.engines[0].scm_class, "ram");
    assert_eq!(ram.engines[0].scm_size, Some(32));
    assert_eq!(ram.engines[0].bdev_class, "malloc");
    assert_eq!(ram.engines[0].fabric_iface_port, 4711);

    let four = planned(&big(), "-e 4 -s").unwrap();
    let places: Vec<_> = four
        .engines
        .iter()
        .map(|e| (e.numa_node, e.first_core, e.targets))
        .collect();
    assert_eq!(
        places,
        [
            (Some(0), 0, 3),
            (Some(1), 8, 3),
            (Some(0), 4, 3),
            (Some(1), 12, 3)
        ]
    );
    assert_eq!(four.engines[2].fabric_iface.as_deref(), Some("ib0"));
    // Two devices for four engines: none of them gets one.
    assert!(four.engines.iter().all(|e| e.scm_class == "ram"));
}

#[test]
fn scm_is_mounted_where_it_was_asked_for_and_unprepared_memory_is_told() {
    let plan = planned(&big(), "-s --scm-mount-path /mnt/daosa").unwrap();
    let mounts: Vec<_> = plan.engines.iter().map(|e| e.scm_mount.clone()).collect();
    assert_eq!(
        mounts,
        [Path::new("/mnt/daosa/0"), Path::new("/mnt/daosa/1")]
    );
    assert!(plan.engines.iter().all(|e| e.scm_class == "dcpm"));
    let raw = Found {
        scm: Vec::new(),
        unprepared: vec!["nmem0".to_owned(), "nmem1".to_owned()],
        ..big()
    };
    let plan = planned(&raw, "-s").unwrap();
    assert_eq!(plan.engines[0].scm_class, "ram");
    let reason = &plan.engines[0].scm_reason;
    assert!(
        reason.contains("nmem0, nmem1") && reason.contains("storage prepare --scm-only"),
        "{reason}"
    );
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (line, words) in [
        ("--scm-mount-path mnt/daos", "no absolute path"),
        ("-f 1,2,3", "-f has 3 port(s) for 2 engine(s)"),
        ("-f 7,7", "7 twice"),
        ("-e 17", "17 engines need a core each"),
        ("-p ofi+psm2", "no plugin provides fabric class `ofi`"),
    ] {
        let error = planned(&big(), line).unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
    let mut dark = big();
    dark.offers.clear();
    let error = planned(&dark, "").unwrap_err().to_string();
    assert!(error.contains("no network interface"), "{error}");
    let mut small = big();
    small.scm.clear();
    small.memory = 3 << 30;
    let error = planned(&small, "").unwrap_err().to_string();
    assert!(error.contains("available memory"), "{error}");
}

#[test]
fn cores_that_alternate_between_nodes_are_said_to() {
    let mut found = big();
    found.nodes[0].cores = (0..16).step_by(2).collect();
    found.nodes[1].cores = (1..16).step_by(2).collect();
    let plan = planned(&found, "").unwrap();
    assert!(
        plan.notes.iter().any(|n| n.contains("alternate")),
        "{plan:?}"
    );
    let cores: Vec<_> = plan.engines.iter().map(|e| e.first_core).collect();
    assert_eq!(cores, [0, 8]);
}

#[test]
fn without_devices_a_file_or_memory_stands_in() {
    let mut found = big();
    found.bdevs.clear();
    let plan = planned(&found, "").unwrap();
    assert_eq!(plan.engines[1].bdev_list, ["/var/tmp/daos-bdev1"]);
    assert_eq!(plan.engines[1].bdev_size, Some(8));
    found.files.1 = 1_000_000_000;
    let plan = planned(&found, "").unwrap();
    assert_eq!(plan.engines[1].bdev_class, "malloc");
    assert!(plan.engines[1].bdev_reason.contains("no room"));
}
