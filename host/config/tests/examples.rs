//! The shipped examples: they parse, pass the class checks, and say what the code says.

mod common;

use std::path::PathBuf;

use common::{parse, schemas};
use daos_config::{ClassSchema, Config, Overrides};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// What the sed command in the head of the file does.
fn uncommented(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest)
                if rest.starts_with("  ") || rest.starts_with(|c: char| c.is_ascii_lowercase()) =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn the_commented_example_is_generated() {
    let path = examples().join("daos_server.yml");
    let shipped = std::fs::read_to_string(&path).unwrap();
    assert!(
        shipped == daos_config::example(),
        "examples/daos_server.yml is out of date: run\n  \
         cargo run -p daos-config --example write_example > examples/daos_server.yml"
    );
}

#[test]
fn the_commented_example_means_all_defaults() {
    let loaded = parse(&daos_config::example()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_commented_example_is_valid_when_uncommented() {
    let text = uncommented(&daos_config::example());
    let loaded = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.check_classes(&schemas()), []);
    assert_eq!(config.servers.len(), 2);
    // Every key that shows an example arrives in the configuration.
    let yaml = config.to_yaml().unwrap();
    for spec in daos_config::keys::of(daos_config::keys::Scope::Top)
        .chain(daos_config::keys::of(daos_config::keys::Scope::Transport))
        .chain(daos_config::keys::of(daos_config::keys::Scope::Server))
        .filter(|k| !k.alternative)
    {
        assert!(
            yaml.contains(&format!("{}:", spec.name)),
            "{} is lost:\n{yaml}",
            spec.name
        );
    }
}

#[test]
fn all_examples_pass_all_checks() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yml") {
            continue;
        }
        let loaded = Config::load(&path, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        let found = loaded.config.check_classes(&schemas());
        assert_eq!(found, [], "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "daos_server.yml",
            "emulated.yml",
            "kdev.yml",
            "malloc.yml",
            "nvme-dcpm.yml",
            "two-engines.yml"
        ]
    );
}

/// The classes of the manifests in the tree, and those of [`schemas`] that it does not have.
fn real_schemas() -> Vec<ClassSchema> {
    let plugins = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut real = Vec::new();
    for entry in std::fs::read_dir(plugins).unwrap() {
        let Ok(text) = std::fs::read_to_string(entry.unwrap().path().join("manifest.json")) else {
            continue;
        };
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        for class in manifest["classes"].as_array().unwrap() {
            real.push(ClassSchema {
                kind: serde_json::from_value(class["kind"].clone()).unwrap(),
                class: class["name"].as_str().unwrap().to_owned(),
                plugin: manifest["name"].as_str().unwrap().to_owned(),
                schema: class["schema"].clone(),
                exclusive: Vec::new(),
            });
        }
    }
    assert!(real.iter().any(|s| s.class == "file"));
    let missing = |s: &ClassSchema| {
        real.iter()
            .all(|r| (r.kind, &r.class) != (s.kind, &s.class))
    };
    let others: Vec<_> = schemas().into_iter().filter(missing).collect();
    real.extend(others);
    real
}

#[test]
fn all_examples_pass_the_schemas_of_the_plugins_in_the_tree() {
    let real = real_schemas();
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yml") {
            let loaded = Config::load(&path, &Overrides::default()).unwrap();
            assert_eq!(loaded.config.check_classes(&real), [], "{}", path.display());
        }
    }
    let all = parse(&uncommented(&daos_config::example())).unwrap().config;
    assert_eq!(all.check_classes(&real), []);
}

#[test]
fn the_second_engine_of_two_is_merged_from_the_first() {
    let path = examples().join("two-engines.yml");
    let config = Config::load(&path, &Overrides::default()).unwrap().config;
    assert_eq!(config.servers[1].targets, 20);
    assert_eq!(config.servers[1].rank, Some(1));
    assert_eq!(config.servers[1].fabric_iface.as_deref(), Some("ib1"));
}
