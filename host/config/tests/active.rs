//! The configuration in effect on disk, and the keys that must not change after format.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{codes, good, schemas};
use daos_config::{ACTIVE_FILE, Code, Config, ImmutableKey, Overrides};
use serde_json::json;

const TEXT: &str = "servers:\n- scm_mount: /mnt/daos\n  scm_class: ram\n  scm_size: 1\n  \
                    bdev_class: nvme\n  bdev_list: ['81:00.0']\n  bdev_retry_count: 3\n  \
                    env_vars: ['A=#1', 'B= x: y']\n";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn it_is_written_beside_the_file_and_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daos_server.yml");
    fs::write(&file, TEXT).unwrap();
    let config = Config::load(&file, &Overrides::default()).unwrap().config;
    for wanted in [0o644, 0o600, 0o640] {
        fs::set_permissions(&file, fs::Permissions::from_mode(wanted)).unwrap();
        let active = config
            .write_active(Some(&file), Path::new("/nowhere"))
            .unwrap();
        assert_eq!(active, dir.path().join(ACTIVE_FILE));
        assert_eq!(mode(&active), wanted, "no wider than its source");
        let again = Config::load(&active, &Overrides::default()).unwrap();
        assert_eq!(again.config, config);
        assert_eq!(again.warnings, []);
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o777)).unwrap();
    let active = config
        .write_active(Some(&file), Path::new("/nowhere"))
        .unwrap();
    assert_eq!(mode(&active), 0o644, "never writable by others");
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
}

#[test]
fn the_temporary_directory_is_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = good(TEXT);
    let gone = Path::new("/nowhere/daos_server.yml");
    let active = config.write_active(Some(gone), dir.path()).unwrap();
    assert_eq!(active, dir.path().join(ACTIVE_FILE));
    assert_eq!(mode(&active), 0o600);
    assert_eq!(config.write_active(None, dir.path()).unwrap(), active);
    // A directory in the way stands for a file of somebody else in a sticky directory.
    fs::remove_file(&active).unwrap();
    fs::create_dir(&active).unwrap();
    let other = config.write_active(None, dir.path()).unwrap();
    assert!(other != active && other.is_file());
    let error = config
        .write_active(None, Path::new("/nowhere"))
        .unwrap_err();
    assert!(
        error.to_string().contains("/nowhere/.daos_server.active"),
        "{error}"
    );
}

#[test]
fn a_link_in_its_place_is_replaced_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, dir.path().join(ACTIVE_FILE)).unwrap();
    let active = good(TEXT).write_active(None, dir.path()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(&active).unwrap().is_file());
}

fn value<'k>(keys: &'k [ImmutableKey], key: &str) -> &'k serde_json::Value {
    &keys.iter().find(|k| k.key == key).unwrap().value
}

#[test]
fn immutable_keys_are_those_of_the_table() {
    use daos_config::keys::{Scope, of};
    let text = TEXT
        .replace("nvme", "acme")
        .replace("bdev_retry_count: 3", "acme_shelf: 3");
    let config = good(&text);
    let names = |scope| {
        of(scope)
            .filter(|k| k.immutable)
            .map(|k| k.name)
            .collect::<Vec<_>>()
    };
    let listed = |keys: &[ImmutableKey]| keys.iter().map(|k| k.key.clone()).collect::<Vec<_>>();
    assert_eq!(listed(&config.immutable_keys()), names(Scope::Top));
    let server = config.immutable_server_keys(0, &schemas());
    let mut expected = names(Scope::Server);
    expected.push("acme_shelf");
    assert_eq!(listed(&server), expected);
    assert_eq!(value(&server, "bdev_list"), &json!(["0000:81:00.0"]));
    assert_eq!(value(&server, "rank"), &json!(null));
    // The nvme schema marks its own key as changeable.
    let server = good(TEXT).immutable_server_keys(0, &schemas());
    assert!(server.iter().all(|k| k.key != "bdev_retry_count"));
    assert_eq!(good(TEXT).immutable_server_keys(7, &schemas()), []);
}

#[test]
fn changes_name_key_old_and_new_value() {
    let all = schemas();
    let before = good(TEXT);
    let recorded = before.immutable_server_keys(0, &all);
    assert_eq!(before.check_immutable(Some(0), &recorded, &all), []);
    let same = good(
        &TEXT
            .replace("81:00.0", "0000.81.00.0")
            .replace("count: 3", "count: 4"),
    );
    assert_eq!(same.check_immutable(Some(0), &recorded, &all), []);
    let changed = good(&TEXT.replace("81:00.0", "82:00.0"));
    let found = changed.check_immutable(Some(0), &recorded, &all);
    assert_eq!(codes(&found), [Code::ImmutableChanged]);
    assert_eq!((found[0].line, found[0].column), (Some(6), Some(14)));
    assert!(
        found[0].message.contains("[\"0000:81:00.0\"]"),
        "{}",
        found[0]
    );
    assert!(
        found[0].message.contains("[\"0000:82:00.0\"]"),
        "{}",
        found[0]
    );
    let added = good(&format!("name: other\naccess_points: [a]\n{TEXT}"));
    let found = added.check_immutable(None, &before.immutable_keys(), &all);
    assert_eq!(codes(&found), [Code::ImmutableChanged; 2]);
}

#[test]
fn an_automatic_rank_is_not_a_change() {
    let config = good(TEXT);
    let mut recorded = config.immutable_server_keys(0, &[]);
    let rank = recorded.iter_mut().find(|k| k.key == "rank").unwrap();
    rank.value = json!(5);
    assert_eq!(config.check_immutable(Some(0), &recorded, &[]), []);
    let other = good(&TEXT.replace("- scm", "- rank: 6\n  scm"));
    assert_eq!(
        codes(&other.check_immutable(Some(0), &recorded, &[])),
        [Code::ImmutableChanged]
    );
}

#[test]
fn relative_paths_are_resolved_on_request() {
    let mut config = good("socket_dir: run\ncontrol_log_file: /var/c.log\nattach: a\n");
    config.resolve_paths(Path::new("/base"));
    assert_eq!(config.socket_dir, Path::new("/base/run"));
    assert_eq!(
        config.control_log_file.as_deref(),
        Some(Path::new("/var/c.log"))
    );
    assert_eq!(config.attach.as_deref(), Some(Path::new("/base/a")));
}
