//! Classes are open; their keys are checked against the plugins' schemas, at their places.

mod common;

use common::{class, codes, good, schemas, underlined};
use daos_config::{ClassKind, ClassSchema, Code, Config, Diagnostic, Overrides};
use serde_json::json;

const RAM: &str = "  scm_class: ram\n  scm_mount: /mnt/daos\n  scm_size: 1\n";

fn check_with(text: &str, schemas: &[ClassSchema]) -> Vec<Diagnostic> {
    good(text).check_classes(schemas)
}

/// A server with SCM in memory and these lines more; line 5 is the first of them.
fn server(lines: &str) -> String {
    format!("servers:\n-\n{RAM}{lines}")
}

fn check(lines: &str) -> (String, Vec<Diagnostic>) {
    let text = server(lines);
    let found = check_with(&text, &schemas());
    (text, found)
}

fn one(lines: &str) -> (String, Diagnostic) {
    let (text, mut found) = check(lines);
    assert_eq!(found.len(), 1, "{found:#?}");
    (text, found.remove(0))
}

#[test]
fn a_vendors_class_is_valid_as_soon_as_a_plugin_declares_it() {
    let lines =
        "  bdev_class: acme\n  acme_shelf: 3\n  acme_mode: safe\n  acme_paths:\n  - wwn: '50ab'\n";
    let (text, found) = check(lines);
    assert_eq!(found, []);
    let without: Vec<_> = schemas()
        .into_iter()
        .filter(|s| s.class != "acme")
        .collect();
    let found = check_with(&text, &without);
    assert_eq!(
        codes(&found),
        [Code::UnknownClass],
        "its keys are not blamed as well"
    );
    let d = &found[0];
    assert_eq!(underlined(&text, d), "acme");
    assert!(d.message.contains("file, kdev, malloc, nvme"), "{d}");
}

#[test]
fn a_misspelt_class_is_recognised() {
    let (text, d) = one("  bdev_class: fiel\n");
    assert_eq!(d.code, Code::UnknownClass);
    assert_eq!(underlined(&text, &d), "fiel");
    assert_eq!(d.hint.as_deref(), Some("did you mean \"file\"?"));
}

#[test]
fn class_keys_are_reported_in_the_users_lines() {
    let file = "  bdev_class: file\n";
    let acme = "  bdev_class: acme\n";
    for (lines, caret) in [
        (
            format!("{file}  bdev_size: 1\n  bdev_list: [/tmp/a, tmp/b]\n"),
            "tmp/b",
        ),
        (format!("{acme}  acme_shelf: 9\n"), "9"),
        (format!("{acme}  acme_shelf: 'x'\n"), "'x'"),
        (
            format!("{acme}  acme_shelf: 1\n  acme_mode: fsat\n"),
            "fsat",
        ),
        (
            format!("{acme}  acme_shelf: 1\n  acme_paths:\n  - wwn: a\n"),
            "a",
        ),
        (
            format!("{acme}  acme_shelf: 1\n  acme_paths:\n  - wwn: abcd\n    wnn: 1\n"),
            "wnn",
        ),
        (
            "  bdev_class: nvme\n  bdev_list: [/dev/sdb]\n".to_owned(),
            "/dev/sdb",
        ),
        (
            "  bdev_class: malloc\n  bdev_size: 1\n  bdev_number: 65\n".to_owned(),
            "65",
        ),
        (format!("{file}  bdev_list: [/a]\n"), "file"),
        (acme.to_owned(), "acme"),
    ] {
        let (text, d) = one(&lines);
        assert_eq!(d.code, Code::ClassKey, "{d}");
        assert_eq!(underlined(&text, &d), caret, "{d}");
        assert!(d.key.starts_with("servers[0]."), "{d}");
    }
    let (_, d) = one(&format!("{file}  bdev_list: [/a]\n"));
    assert!(
        d.message
            .contains("bdev_class file needs the key bdev_size"),
        "{d}"
    );
    assert_eq!(d.hint.as_deref(), Some("bdev_size: size in GB"));
    let (_, d) = one(&format!("{acme}  acme_shelf: 1\n  acme_mode: fsat\n"));
    assert_eq!(d.hint.as_deref(), Some("did you mean \"fast\"?"));
}

#[test]
fn dcpm_takes_exactly_one_device() {
    let server =
        |list: &str| format!("servers:\n- scm_mount: /a\n{list}  bdev_list: ['81:00.0']\n");
    for (list, ok) in [
        ("  scm_list: [/dev/pmem0]\n", true),
        ("", false),
        ("  scm_list: []\n", false),
        ("  scm_list: [/dev/pmem0, /dev/pmem1]\n", false),
        ("  scm_list: [pmem0]\n", false),
    ] {
        let found = check_with(&server(list), &schemas());
        assert_eq!(found.is_empty(), ok, "{list} {found:#?}");
    }
}

#[test]
fn a_standard_key_that_the_class_ignores_is_a_warning() {
    let (text, d) = one("  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n  bdev_number: 2\n");
    assert_eq!((d.code, d.is_error()), (Code::UnusedKey, false));
    assert!(
        d.message
            .contains("bdev_number is not used by bdev_class kdev"),
        "{d}"
    );
    assert_eq!(underlined(&text, &d), "bdev_number");
}

#[test]
fn unknown_keys_of_a_server_are_errors_with_the_nearest_key() {
    let kdev = "  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n";
    for (key, hint) in [
        ("tragets", "did you mean \"targets\"?"),
        ("scm_mnt", "did you mean \"scm_mount\"?"),
        (
            "acme_shelf",
            "it is a key of bdev_class acme (plugin bdev-acme)",
        ),
        (
            "bdev_exclude",
            "\"bdev_exclude\" belongs to the top level of the file",
        ),
        ("ca_cert", "\"ca_cert\" belongs under transport_config:"),
    ] {
        let (text, d) = one(&format!("{kdev}  {key}: 1\n"));
        assert_eq!(d.code, Code::UnknownKey);
        assert_eq!(underlined(&text, &d), key);
        assert_eq!(d.hint.as_deref(), Some(hint));
    }
    let (_, d) = one("  bdev_class: acme\n  acme_shelf: 1\n  acme_mod: safe\n");
    assert_eq!(d.hint.as_deref(), Some("did you mean \"acme_mode\"?"));
}

#[test]
fn the_fabric_class_is_in_the_provider() {
    let with = |provider: &str| {
        let text = format!(
            "provider: {provider}\n{}",
            server("  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n")
        );
        (check_with(&text, &schemas()), text)
    };
    for good in ["tcp", "ofi+tcp;ofi_rxm", "ofi+sockets", "ofi+verbs;ofi_rxm"] {
        assert_eq!(with(good).0, [], "{good}");
    }
    let (found, text) = with("psm2");
    assert_eq!(codes(&found), [Code::UnknownClass]);
    assert_eq!(
        (found[0].line, underlined(&text, &found[0]).as_str()),
        (Some(1), "psm2")
    );
    assert!(found[0].hint.as_ref().unwrap().contains("ofi+psm2"));
    assert!(found[0].message.contains("known are: ofi, tcp"));
}

#[test]
fn nothing_stands_in_for_a_provider_without_its_plugin() {
    let all: Vec<_> = schemas().into_iter().filter(|s| s.class != "ofi").collect();
    let text = format!(
        "provider: ofi+tcp;ofi_rxm\n{}",
        server("  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n")
    );
    let config = good(&text);
    assert!(config.class_of(0, ClassKind::Fabric, &all).is_none());
    let found = config.check_classes(&all);
    assert_eq!(codes(&found), [Code::UnknownClass]);
    assert!(
        found[0].message.contains("\"ofi+tcp;ofi_rxm\""),
        "{}",
        found[0].message
    );
    // Who knows what is wrong with the plugin says it.
    let missing = |provider: &str| {
        assert_eq!(provider, "ofi+tcp;ofi_rxm");
        Some(("its plugin is refused".to_owned(), "mend it".to_owned()))
    };
    let found = config.check_classes_with(&all, &missing);
    assert_eq!(codes(&found), [Code::UnknownClass]);
    assert_eq!(underlined(&text, &found[0]), "ofi+tcp;ofi_rxm");
    assert!(found[0].message.contains("its plugin is refused"));
    assert_eq!(found[0].hint.as_deref(), Some("mend it"));
    // With its plugin it is what the plugin says.
    assert_eq!(config.check_classes_with(&schemas(), &missing), []);
}

#[test]
fn a_class_without_a_schema_is_left_to_its_plugin() {
    let mut all = schemas();
    all.push(class(ClassKind::Bdev, "plain", "plain", json!(null)));
    let found = check_with(&server("  bdev_class: plain\n  bdev_number: 1\n"), &all);
    assert_eq!(found, []);
    let found = check_with(&server("  bdev_class: plain\n  own: 1\n"), &all);
    assert_eq!(codes(&found), [Code::UnknownKey]);
}

#[test]
fn two_plugins_with_one_class() {
    let mut all = schemas();
    all.push(class(ClassKind::Bdev, "kdev", "other-kdev", json!({})));
    let lines = "  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n";
    let found = check_with(&server(lines), &all);
    assert_eq!(codes(&found), [Code::AmbiguousClass]);
    assert!(found[0].message.contains("bdev-kdev and other-kdev"));
    let allowed = format!("plugins: [scm-ram, bdev-kdev]\n{}", server(lines));
    assert_eq!(check_with(&allowed, &all), []);
}

#[test]
fn two_plugins_of_one_engine_do_not_bring_one_exclusive_runtime() {
    let bringing = |kind, name: &str, plugin: &str, runtime: &str| ClassSchema {
        exclusive: vec!["another".to_owned() + plugin, runtime.to_owned()],
        ..class(kind, name, plugin, json!(null))
    };
    let mut all = schemas();
    all.push(bringing(ClassKind::Bdev, "fast", "bdev-fast", "dpdk-eal"));
    all.push(bringing(
        ClassKind::Fabric,
        "dpdk",
        "fabric-dpdk",
        "dpdk-eal",
    ));
    all.push(bringing(
        ClassKind::Fabric,
        "plain",
        "fabric-plain",
        "x-eal",
    ));
    let lines =
        |provider| format!("  bdev_class: fast\n  bdev_number: 1\n  provider: {provider}\n");
    let text = server(&lines("dpdk"));
    let found = check_with(&text, &all);
    assert_eq!(codes(&found), [Code::ExclusiveRuntime]);
    assert_eq!(underlined(&text, &found[0]), "dpdk");
    for word in ["bdev-fast", "fabric-dpdk", "dpdk-eal"] {
        assert!(found[0].message.contains(word), "{}", found[0].message);
    }
    assert_eq!(check_with(&server(&lines("plain")), &all), []);
}

#[test]
fn the_allow_list_counts() {
    let lines = "  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n";
    let text = format!("plugins: [scm-ram, bdev-kdve]\n{}", server(lines));
    let found = check_with(&text, &schemas());
    assert_eq!(codes(&found), [Code::UnknownPlugin, Code::UnknownClass]);
    assert_eq!(
        found[0].hint.as_deref(),
        Some("did you mean \"bdev-kdev\"?")
    );
    assert!(!found[0].is_error());
    assert_eq!(
        found[1].hint.as_deref(),
        Some("add \"bdev-kdev\" to plugins:")
    );
}

#[test]
fn a_schema_beyond_the_subset_is_said_not_ignored() {
    let mut all = schemas();
    all.push(class(ClassKind::Bdev, "odd", "odd", json!({"oneOf": []})));
    let found = check_with(&server("  bdev_class: odd\n"), &all);
    assert_eq!(codes(&found), [Code::PluginSchema]);
    assert!(found[0].message.contains("plugin odd") && !found[0].is_error());
}

#[test]
fn plugins_see_their_keys_and_no_others() {
    let text = server("  targets: 4\n  bdev_class: acme\n  acme_shelf: 3\n");
    let config = good(&text);
    let all = schemas();
    let bdev = config.class_of(0, ClassKind::Bdev, &all).unwrap();
    let section = config.servers[0].class_section(bdev);
    assert_eq!(serde_json::Value::Object(section), json!({"acme_shelf": 3}));
    let scm = config.class_of(0, ClassKind::Scm, &all).unwrap();
    let section = config.servers[0].class_section(scm);
    let expected = json!({"scm_mount": "/mnt/daos", "scm_size": 1});
    assert_eq!(serde_json::Value::Object(section), expected);
    assert_eq!(config.class_of(0, ClassKind::Fabric, &all), None);
    assert_eq!(config.class_of(9, ClassKind::Bdev, &all), None);
}

#[test]
fn options_are_named_as_the_place_of_what_they_set() {
    let overrides = Overrides {
        storage: Some("/mnt/x".into()),
        ..Overrides::default()
    };
    let mut all = schemas();
    all.push(class(
        ClassKind::Scm,
        "strict",
        "strict",
        json!({"properties": {"scm_mount": {"pattern": "^/srv/"}}}),
    ));
    let text = "servers:\n- scm_class: strict\n  bdev_class: kdev\n  bdev_list: [/dev/sdb]\n";
    let config = Config::parse(text, "t.yml", &overrides).unwrap().config;
    let found = config.check_classes(&all);
    assert_eq!(codes(&found), [Code::ClassKey]);
    assert_eq!(found[0].option.as_deref(), Some("-s/--storage"));
    assert!(
        found[0]
            .to_string()
            .contains("--> command line option -s/--storage")
    );
}
