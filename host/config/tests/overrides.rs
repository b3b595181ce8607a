//! The command line wins over the file, and can supply what the file lacks.

mod common;

use std::path::{Path, PathBuf};

use common::codes;
use daos_config::{Code, Config, Overrides};

const TWO: &str = "name: a\nport: 10002\nsocket_dir: /run/a\nmodules: m1\nservers:\n\
                   - scm_mount: /mnt/0\n  name: b\n  targets: 3\n  nr_xs_helpers: 1\n  first_core: 2\n\
                   - scm_mount: /mnt/1\n  socket_dir: /run/b\n  modules: m2\n";

fn load(text: &str, overrides: &Overrides) -> Config {
    Config::parse(text, "t.yml", overrides)
        .unwrap_or_else(|e| panic!("{e}"))
        .config
}

#[test]
fn every_option_wins() {
    let c = load(
        TWO,
        &Overrides {
            port: Some(10009),
            storage: None,
            modules: Some("x,y".to_owned()),
            targets: Some(0),
            xshelpernr: Some(0),
            firstcore: None,
            group: Some("sys".to_owned()),
            attach_info: Some("/tmp/attach".into()),
            socket_dir: Some("/run/c".into()),
            insecure: true,
            plugins_dir: Some("/opt/p".into()),
            state_dir: Some("/opt/s".into()),
        },
    );
    assert_eq!((c.port, c.name.as_str()), (10009, "sys"));
    assert!(c.transport_config.allow_insecure);
    assert_eq!(c.attach.as_deref(), Some(Path::new("/tmp/attach")));
    assert_eq!(c.plugins_dir.as_deref(), Some(Path::new("/opt/p")));
    assert_eq!(c.state_dir.as_deref(), Some(Path::new("/opt/s")));
    assert_eq!(c.socket_dir, Path::new("/run/c"));
    for server in &c.servers {
        assert_eq!(server.name, "sys");
        assert_eq!(server.socket_dir, Path::new("/run/c"));
        assert_eq!(server.modules.as_deref(), Some("x,y"));
        assert_eq!(
            (server.targets, server.nr_xs_helpers),
            (0, 0),
            "0 is a value too"
        );
    }
    assert_eq!(c.servers[0].first_core, Some(2));
}

#[test]
fn no_option_changes_nothing() {
    let c = load(TWO, &Overrides::default());
    assert_eq!((c.port, c.servers[0].name.as_str()), (10002, "b"));
    assert_eq!((c.servers[0].targets, c.servers[0].nr_xs_helpers), (3, 1));
    assert_eq!(c.servers[1].name, "a");
    assert_eq!(c.servers[1].modules.as_deref(), Some("m2"));
    assert!(!c.transport_config.allow_insecure);
}

#[test]
fn an_option_supplies_what_the_file_lacks() {
    let text = "servers:\n- targets: 1\n";
    assert!(Config::parse(text, "t.yml", &Overrides::default()).is_err());
    let overrides = Overrides {
        storage: Some("/mnt/daos".into()),
        firstcore: Some(5),
        ..Overrides::default()
    };
    let c = load(text, &overrides);
    assert_eq!(c.servers[0].scm_mount, Path::new("/mnt/daos"));
    assert_eq!(c.servers[0].first_core, Some(5));
}

#[test]
fn bad_options_are_errors_that_name_the_option() {
    let with = |change: fn(&mut Overrides)| {
        let mut overrides = Overrides::default();
        change(&mut overrides);
        let error = Config::parse(TWO, "t.yml", &overrides).unwrap_err();
        error.diagnostics[0].clone()
    };
    for (d, code, option) in [
        (with(|o| o.port = Some(0)), Code::OutOfRange, "-p/--port"),
        (
            with(|o| o.targets = Some(9999)),
            Code::OutOfRange,
            "-t/--targets",
        ),
        (
            with(|o| o.xshelpernr = Some(42)),
            Code::OutOfRange,
            "-x/--xshelpernr",
        ),
        (
            with(|o| o.firstcore = Some(1 << 20)),
            Code::OutOfRange,
            "-f/--firstcore",
        ),
        (
            with(|o| o.storage = Some("mnt".into())),
            Code::RelativePath,
            "-s/--storage",
        ),
        (
            with(|o| o.state_dir = Some("s".into())),
            Code::RelativePath,
            "--state-dir",
        ),
        (
            with(|o| o.plugins_dir = Some(PathBuf::new())),
            Code::BadValue,
            "--plugins-dir",
        ),
        (
            with(|o| o.group = Some(String::new())),
            Code::BadValue,
            "-g/--group",
        ),
        (
            with(|o| o.group = Some("a b".to_owned())),
            Code::BadValue,
            "-g/--group",
        ),
        (
            with(|o| o.modules = Some("a\nb".to_owned())),
            Code::BadValue,
            "-m/--modules",
        ),
        (
            with(|o| o.storage = Some("/mnt/x".into())),
            Code::DuplicateScmMount,
            "-s/--storage",
        ),
    ] {
        assert_eq!(d.code, code, "{d}");
        assert_eq!(d.option.as_deref(), Some(option), "{d}");
        assert!(d.to_string().contains(option));
    }
}

#[test]
fn a_conflict_between_option_and_file_shows_both() {
    let text = "telemetry_port: 9191\nservers:\n- scm_mount: /a\n";
    let overrides = Overrides {
        port: Some(9191),
        ..Overrides::default()
    };
    let error = Config::parse(text, "t.yml", &overrides).unwrap_err();
    assert_eq!(codes(&error.diagnostics), [Code::TelemetryPort]);
    assert_eq!(error.diagnostics[0].line, Some(1));
    assert!(
        error.to_string().contains("port is given by -p/--port"),
        "{error}"
    );
}
