use super::*;
use daos_topology::{Interface, Link, Node, Offer};
use gather::{Device, Found};
use std::path::Path;

/// A machine of two nodes with a network interface and an NVMe controller each; the built-in plugins.
fn found() -> Found {
    let nvme = |address: &str, node| Device {
        class: "kdev".to_owned(),
        address: address.to_owned(),
        numa_node: Some(node),
    };
    let interface = |name: &str, node| Interface {
        name: name.to_owned(),
        index: 2 + node,
        link: Link::Ethernet,
        is_up: true,
        is_physical: true,
        numa_node: Some(node),
        speed_mbps: None,
        rdma: Vec::new(),
    };
    let offer = |name: &str| Offer {
        provider: "tcp".to_owned(),
        plugin: "fabric-tcp".to_owned(),
        interface: name.to_owned(),
        is_up: Some(true),
        addresses: Some(vec!["192.0.2.1".to_owned()]),
        is_loopback: false,
    };
    let node = |number, from| Node {
        number,
        cores: (from..from + 4).collect(),
    };
    Found {
        nodes: vec![node(0, 0), node(1, 4)],
        cores: (0..8).collect(),
        interfaces: vec![interface("eth0", 0), interface("eth1", 1)],
        offers: vec![offer("eth0"), offer("eth1")],
        bdevs: vec![nvme("/dev/sda", 0), nvme("/dev/sdb", 1)],
        memory: 64 << 30,
        files: ("/var/tmp".into(), 0),
        scm_base: "/mnt/daos".into(),
        ..Found::default()
    }
}

fn config(text: &str) -> Config {
    let loaded = Config::parse(text, "test", &Overrides::default());
    loaded.unwrap_or_else(|e| panic!("{e}")).config
}

/// Plans for a configuration as [`propose`] does, from a machine of the test's.
fn planned(text: &str, plugins: &Plugins) -> anyhow::Result<(Config, String)> {
    let (config, mut found) = (config(text), found());
    restrict(&config, &mut found);
    let plan = plan::plan(plugins, &config, &wishes(&config, &found), &found)?;
    let yaml = render::servers(&plan, config.provider.is_none());
    Ok((merged(&config, plugins, &yaml)?, yaml))
}

fn plugins(dir: &Path) -> Plugins {
    let mut config = Config::default();
    config.state_dir = Some(dir.to_owned());
    Plugins::open(&config, &std::env::current_exe().unwrap()).unwrap()
}

#[test]
fn one_engine_per_node_and_the_same_plan_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = plugins(dir.path());
    let (first, yaml) = planned("name: big\nsocket_dir: /run/x\n", &plugins).unwrap();
    assert_eq!(first.servers.len(), 2, "{yaml}");
    let interfaces: Vec<_> = first
        .servers
        .iter()
        .map(|s| s.fabric_iface.as_deref())
        .collect();
    assert_eq!(interfaces, [Some("eth0"), Some("eth1")]);
    let devices: Vec<_> = first.servers.iter().flat_map(|s| &s.bdev_list).collect();
    assert_eq!(devices, ["/dev/sda", "/dev/sdb"]);
    // What the file says for all engines holds for these.
    assert!(
        first
            .servers
            .iter()
            .all(|s| s.name == "big" && s.socket_dir == Path::new("/run/x"))
    );
    assert!(
        first
            .servers
            .iter()
            .all(|s| s.provider.as_deref() == Some("tcp"))
    );
    let (again, _) = planned("name: big\nsocket_dir: /run/x\n", &plugins).unwrap();
    assert_eq!(hash(&first), hash(&again));
    // Another machine or configuration is another plan.
    let (other, _) = planned("name: other\n", &plugins).unwrap();
    assert_ne!(hash(&first), hash(&other));
}

#[test]
fn what_the_file_names_and_excludes_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = plugins(dir.path());
    let text = "provider: tcp\nfabric_ifaces: [eth1]\nscm_mount_path: /srv/scm\n";
    let (config, yaml) = planned(text, &plugins).unwrap();
    assert!(
        config
            .servers
            .iter()
            .all(|s| s.fabric_iface.as_deref() == Some("eth1")),
        "{yaml}"
    );
    assert_eq!(config.servers[1].scm_mount, Path::new("/srv/scm/1"));
    assert!(!yaml.contains("provider:"), "the file has it: {yaml}");
    assert!(planned("fabric_iface: ib7\n", &plugins).is_err());
    let mut found = found();
    for (device, class) in found.bdevs.iter_mut().zip(["nvme", "kdev"]) {
        class.clone_into(&mut device.class);
    }
    found.bdevs[0].address = "0000:81:00.0".to_owned();
    restrict(
        &super::tests::config("bdev_exclude: ['0000:81:00.0']\n"),
        &mut found,
    );
    assert_eq!(found.bdevs.len(), 1);
}

#[tokio::test]
async fn a_plan_counts_from_when_somebody_agrees_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = plugins(dir.path());
    let (config, yaml) = planned("", &plugins).unwrap();
    let proposal = Proposal {
        hash: hash(&config),
        yaml,
        file: dir.path().join(FILE),
        accepted: AtomicBool::new(false),
    };
    for agreed in ["", "0123"] {
        let refusal = proposal.refusal(agreed).unwrap();
        assert!(refusal.to_string().contains(proposal.hash()), "{refusal}");
    }
    assert!(proposal.refusal(proposal.hash()).is_none());
    proposal.accept().unwrap();
    proposal.accept().unwrap();
    assert!(proposal.refusal("").is_none() && proposal.refusal("0123").is_some());

    // The next start takes it as it is, whatever the machine has then.
    let mut next = Config::default();
    let engines = fill(&mut next, &plugins).await.unwrap();
    let Engines::Planned(kept) = engines else {
        panic!("{engines:?}")
    };
    assert!(kept.is_accepted());
    assert_eq!(
        (kept.hash(), &next.servers),
        (proposal.hash(), &config.servers)
    );
    // A file that names engines needs none.
    assert!(matches!(
        fill(&mut next, &plugins).await.unwrap(),
        Engines::Configured
    ));
    // One that is damaged keeps the server from starting with other engines than those on the storage.
    for damage in [
        "servers: [",
        "servers: []\n",
        "name: x\n",
        "servers:\n- scm_mount: /a\n  bdev_class: none\n",
    ] {
        std::fs::write(&proposal.file, damage).unwrap();
        let error = fill(&mut Config::default(), &plugins).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("remove the file"),
            "{error:#}"
        );
    }
}

#[test]
fn a_plan_that_cannot_be_kept_is_not_agreed_to() {
    let proposal = Proposal {
        yaml: "servers: []\n".to_owned(),
        hash: "h".to_owned(),
        file: "/proc/none/engines.yml".into(),
        accepted: AtomicBool::new(false),
    };
    let fault = proposal.accept().unwrap_err();
    assert!(
        fault.to_string().contains("/proc/none/engines.yml"),
        "{fault}"
    );
    assert!(!proposal.is_accepted());
}
