//! What `ndctl` 76.1 and `ipmctl` 03.00.00.0468 really print is read: recorded on NVDIMMs with label areas, new, in
//! use, and killed in the middle, and on modules of Intel's.

use scm_dcpm::prepare::{Dimms, Inventory};

fn read(text: &str) -> Inventory {
    Inventory::parse(text).expect("what ndctl printed")
}

#[test]
fn new_modules_are_raw_regions_in_every_shape_of_the_listing() {
    let flat = read(include_str!("recorded/new-modules.json"));
    let bus = read(include_str!("recorded/new-modules-with-bus.json"));
    for inventory in [&flat, &bus] {
        let modules: Vec<&str> = inventory.modules.iter().map(|m| m.dev.as_str()).collect();
        assert_eq!(modules, ["nmem0", "nmem1"]);
        let regions: Vec<&str> = inventory.regions.iter().map(|r| r.dev.as_str()).collect();
        assert_eq!(regions, ["region0", "region1"]);
        for region in &inventory.regions {
            assert_eq!(
                (region.size, region.free(), region.kind.as_str()),
                (512 << 20, 0, "pmem")
            );
            let namespaces: Vec<_> = region.real().collect();
            assert_eq!(namespaces.len(), 1);
            assert_eq!(namespaces[0].mode, "raw");
            assert!(!namespaces[0].is_ready());
        }
        // Numbers of modules and regions need not agree.
        let module = inventory
            .modules_of(&inventory.regions[0])
            .next()
            .expect("a module");
        assert_eq!((module.dev.as_str(), module.handle), ("nmem1", Some(2)));
    }
    // Only with -v the node is told.
    assert_eq!(flat.regions[0].numa_node, -1);
    assert_eq!((bus.regions[0].numa_node, bus.regions[1].numa_node), (1, 0));
}

#[test]
fn what_only_stands_for_free_space_is_no_namespace() {
    let inventory = read(include_str!("recorded/fsdax-and-sector.json"));
    let region = &inventory.regions[0];
    assert_eq!(region.free(), 192 << 20);
    assert_eq!(region.namespaces.len(), 3);
    let real: Vec<_> = region
        .real()
        .map(|n| (n.address(), n.mode.as_str(), n.is_ready()))
        .collect();
    let expected = [
        ("/dev/pmem1".to_owned(), "fsdax", true),
        ("/dev/pmem1.1s".to_owned(), "sector", false),
    ];
    assert_eq!(real, expected);
    assert_eq!(region.namespaces[0].name, "daos");
    assert_eq!(region.namespaces[0].align, 2 << 20);
}

#[test]
fn a_namespace_that_was_only_begun_is_known_by_its_identifier() {
    let inventory = read(include_str!("recorded/killed-when-begun.json"));
    let begun: Vec<_> = inventory
        .regions
        .iter()
        .flat_map(|region| &region.namespaces)
        .map(|n| (n.dev.as_str(), n.is_real(), n.is_begun()))
        .collect();
    let expected = [
        ("namespace0.0", false, true),
        ("namespace1.0", false, false),
    ];
    assert_eq!(begun, expected);
}

#[test]
fn a_namespace_whose_making_was_killed_is_disabled_and_has_our_name() {
    let inventory = read(include_str!("recorded/killed-while-created.json"));
    let left: Vec<_> = inventory.regions[0].real().collect();
    assert_eq!(left.len(), 1);
    let left = left[0];
    assert_eq!(
        (left.state.as_str(), left.mode.as_str(), left.name.as_str()),
        ("disabled", "raw", "daos")
    );
    assert!(!left.is_ready());
}

#[test]
fn disabled_regions_nothing_and_nonsense() {
    let inventory = read(include_str!("recorded/regions-as-array.json"));
    assert_eq!(inventory.regions[0].state, "disabled");
    assert!(inventory.regions[0].namespaces.is_empty());
    assert_eq!(inventory.regions[1].state, "");
    // Namespaces without their regions say nothing about those.
    assert_eq!(
        read(include_str!("recorded/only-namespaces.json")),
        Inventory::default()
    );
    assert_eq!(read(""), Inventory::default());
    assert_eq!(read("\n"), Inventory::default());
    assert_eq!(read("[]"), Inventory::default());
    let error = Inventory::parse("ndctl: command failed").expect_err("no JSON");
    assert!(error.to_string().contains("ndctl --version"), "{error}");
    assert!(Inventory::parse(r#"{"dev":"region0","size":"much"}"#).is_err());
}

#[test]
fn modules_of_intels_their_sets_and_their_goals() {
    let inventory = read(include_str!("recorded/dcpm-regions.json"));
    let mut dimms = Dimms::default();
    for text in [
        include_str!("recorded/ipmctl-dimms.xml"),
        include_str!("recorded/ipmctl-regions.xml"),
        include_str!("recorded/ipmctl-goals.xml"),
    ] {
        dimms.add(text).expect("what ipmctl printed");
    }
    let [first, second] = dimms.dimms.as_slice() else {
        panic!("{dimms:?}")
    };
    assert_eq!(
        (first.id.as_str(), first.handle, first.socket),
        ("0x0001", 1, 0)
    );
    assert_eq!((second.handle, second.socket), (0x1001, 1));
    assert_eq!(
        (first.capacity, first.memory, first.app_direct),
        (2 << 30, 0, 2 << 30)
    );
    assert_eq!(
        (first.health.as_str(), first.lock.as_str()),
        ("Healthy", "Disabled")
    );
    assert_eq!(
        (first.manageability.as_str(), first.violation.as_str()),
        ("Manageable", "No")
    );
    assert_eq!(
        (first.firmware.as_str(), first.part.as_str()),
        ("01.02.00.5435", "NMA1XBD128GQS")
    );
    assert_eq!(dimms.sets[1].dimms, ["0x1001"]);
    assert_eq!(dimms.sets[0].kind, "AppDirectNotInterleaved");
    assert_eq!(
        (dimms.goals[0].memory, dimms.goals[0].app_direct),
        (0, 2 << 30)
    );
    assert!(
        dimms.goals[1]
            .status
            .starts_with("New: A reboot is required")
    );
    // The kernel and ipmctl name the same modules differently; their handles agree.
    for module in &inventory.modules {
        let dimm = dimms
            .dimms
            .iter()
            .find(|dimm| Some(dimm.handle) == module.handle);
        assert_eq!(dimm.map(|dimm| &dimm.uid), Some(&module.id));
    }
}

#[test]
fn an_ipmctl_that_does_not_show_what_decisions_are_made_by_is_not_guessed_about() {
    let whole = include_str!("recorded/ipmctl-dimms.xml");
    for name in ["AppDirectCapacity", "PopulationViolation"] {
        let lines = whole
            .lines()
            .filter(|line| !line.contains(&format!("<{name}>")));
        let error = Dimms::default().add(&lines.collect::<String>());
        let error = error.expect_err(name).to_string();
        assert!(
            error.contains(&format!("module 0x0001 is shown without {name}")),
            "{error}"
        );
        // Of a module that cannot be managed nothing is decided by these.
        let lines = whole
            .replace(">Manageable<", ">Unmanageable<")
            .replace(&format!("<{name}>"), "<Other>")
            .replace(&format!("</{name}>"), "</Other>");
        Dimms::default().add(&lines).expect(name);
    }
}

#[test]
fn that_there_is_nothing_is_told_in_many_ways_and_an_error_is_an_error() {
    for text in [
        include_str!("recorded/ipmctl-no-regions.xml"),
        include_str!("recorded/ipmctl-no-goals.xml"),
        include_str!("recorded/ipmctl-no-modules.txt"),
    ] {
        let mut dimms = Dimms::default();
        dimms.add(text).expect("what ipmctl printed");
        assert_eq!(dimms, Dimms::default(), "{text}");
    }
    let refused = Dimms::default().add(include_str!("recorded/ipmctl-goal-refused.xml"));
    let error = refused.expect_err("an error");
    assert!(
        error.cause.contains("Error 124 - Namespaces exist"),
        "{error:?}"
    );
    let error = Dimms::default()
        .add("Segmentation fault")
        .expect_err("no XML");
    assert!(error.cause.contains("Segmentation"), "{error:?}");
}
