//! Every mistake is one clear error: place, caret, nearest valid key, what to do.

mod common;

use common::{SERVER, bad, codes, one, parse, underlined};
use daos_config::{Code, Config, Overrides};

#[test]
fn an_unknown_key_names_the_nearest_valid_one() {
    let text = "name: daos\nprot: 10001\n";
    let d = one(text);
    assert_eq!(d.code, Code::UnknownKey);
    assert_eq!((d.line, d.column), (Some(2), Some(1)));
    assert_eq!(underlined(text, &d), "prot");
    assert_eq!(d.hint.as_deref(), Some("did you mean \"port\"?"));
    let text = parse(text).unwrap_err().to_string();
    assert!(text.contains("t.yml:2:1"), "{text}");
    assert!(text.contains("2 | prot: 10001\n  | ^^^^"), "{text}");
}

#[test]
fn keys_at_the_wrong_level_are_sent_to_the_right_one() {
    for (text, place) in [
        ("scm_mount: /a\n", "servers:"),
        ("allow_insecure: true\n", "transport_config:"),
        ("transport_config:\n  port: 1\n", "top level"),
    ] {
        let d = one(text);
        assert_eq!(d.code, Code::UnknownKey);
        assert!(d.hint.as_ref().unwrap().contains(place), "{d}");
    }
}

#[test]
fn keys_without_a_counterpart_say_what_to_do() {
    let d = one("control_metadata: {path: /x}\n");
    assert_eq!(d.code, Code::NotExpressible);
    assert!(d.hint.unwrap().contains("upstream engine"));
}

#[test]
fn a_repeated_key_names_both_places() {
    for (text, first, second) in [
        ("port: 1\nname: a\nport: 2\n", 1, 3),
        (
            "servers:\n- scm_mount: /a\n  bdev_class: file\n  bdev_class: kdev\n",
            3,
            4,
        ),
        ("servers:\n- scm_mount: /a\n  acme: 1\n  acme: 2\n", 3, 4),
        ("transport_config:\n  cert: a\n  cert: b\n", 2, 3),
    ] {
        let d = one(text);
        assert_eq!(
            (d.code, d.line),
            (Code::DuplicateKey, Some(second)),
            "{text}"
        );
        assert_eq!(d.related[0].line, Some(first), "{text}");
    }
    for text in [
        "plugins:\n  a: {}\n  a: {}\n",
        "plugins: [a, a]\n",
        "plugins:\n  a:\n    settings: {x: 1, x: 2}\n",
    ] {
        assert_eq!(one(text).code, Code::DuplicateKey, "{text}");
    }
}

#[test]
fn types_and_ranges_are_reported_where_they_are() {
    for (line, code, caret) in [
        ("port: 0", Code::OutOfRange, "0"),
        ("port: 65536", Code::OutOfRange, "65536"),
        ("port: -1", Code::OutOfRange, "-1"),
        (
            "port: 99999999999999999999",
            Code::WrongType,
            "99999999999999999999",
        ),
        ("port: 1.5", Code::WrongType, "1.5"),
        ("port: '1'", Code::WrongType, "'1'"),
        ("port: 010", Code::WrongType, "010"),
        ("port: yes", Code::WrongType, "yes"),
        ("telemetry_port: 0", Code::OutOfRange, "0"),
        ("telemetry_port: 10001", Code::TelemetryPort, "10001"),
        ("nr_hugepages: 99999999", Code::OutOfRange, "99999999"),
        ("hyperthreads: maybe", Code::WrongType, "maybe"),
        ("hyperthreads: 2", Code::WrongType, "2"),
        ("control_log_mask: DEBUGG", Code::BadValue, "DEBUGG"),
        ("name: 'my system'", Code::BadValue, "'my system'"),
        ("name: ''", Code::BadValue, "''"),
        ("provider: 'ofi verbs'", Code::Provider, "'ofi verbs'"),
        ("user_name: a/b", Code::BadValue, "a/b"),
        ("fault_path: rack1/host", Code::FaultPath, "rack1/host"),
        ("fault_path: /rack1//host", Code::FaultPath, "/rack1//host"),
        ("plugins_dir: plugins", Code::RelativePath, "plugins"),
        ("state_dir: ./state", Code::RelativePath, "./state"),
        (
            "engine_path: daos_engine",
            Code::RelativePath,
            "daos_engine",
        ),
        ("scm_mount_path: mnt", Code::RelativePath, "mnt"),
        ("access_points: host1", Code::WrongType, "host1"),
    ] {
        let text = format!("{line}\n");
        let d = one(&text);
        assert_eq!(d.code, code, "{d}");
        assert_eq!(underlined(&text, &d), caret, "{d}");
    }
    for (list, item) in [
        ("access_points: [a, 'b:0', c]", "'b:0'"),
        ("access_points: [a, 'b:x', c]", "'b:x'"),
        ("access_points: [a, '[::z]', c]", "'[::z]'"),
        ("access_points: [a, 'a b', c]", "'a b'"),
        (
            "bdev_include: ['0000:81:00.0', '0000:81:00']",
            "'0000:81:00'",
        ),
        ("bdev_exclude: [/dev/sdb]", "/dev/sdb"),
        ("fabric_ifaces: [ib0, 'ib 1']", "'ib 1'"),
    ] {
        let text = format!("{list}\n");
        let found = bad(&text);
        assert!(
            found.iter().any(|d| underlined(&text, d) == item),
            "{found:#?}"
        );
    }
}

#[test]
fn server_keys_are_checked_too() {
    for (line, code, caret) in [
        ("rank: 4294967295", Code::OutOfRange, "4294967295"),
        ("targets: 5000", Code::OutOfRange, "5000"),
        ("nr_xs_helpers: 3", Code::OutOfRange, "3"),
        ("first_core: -1", Code::OutOfRange, "-1"),
        ("scm_size: 0", Code::OutOfRange, "0"),
        ("scm_size: auto", Code::WrongType, "auto"),
        ("bdev_size: 0", Code::OutOfRange, "0"),
        ("bdev_number: 0", Code::OutOfRange, "0"),
        ("fabric_iface_port: 70000", Code::OutOfRange, "70000"),
        ("log_mask: WARNN", Code::BadValue, "WARNN"),
        ("bdev_class: 'a b'", Code::BadValue, "'a b'"),
        ("bdev_list: /dev/sdb", Code::WrongType, "/dev/sdb"),
        ("bdev_list: [/a, '']", Code::BadValue, "''"),
        (
            "bdev_list: [/a, /b, /./a]",
            Code::DuplicateBdevDevice,
            "/./a",
        ),
        ("scm_list: [/a, //a]", Code::DuplicateScmDevice, "//a"),
        ("bdev_layers: {stats: {}}", Code::WrongType, "{"),
        ("bdev_layers: [{fautl: {}}]", Code::UnknownKey, "fautl"),
        (
            "bdev_layers: [{stats: {}}, {fault: {rules: [{do: error, lba: 1}]}}]",
            Code::UnknownKey,
            "lba",
        ),
        (
            "bdev_layers: [{fault: {rules: [{do: explode}]}}]",
            Code::BadValue,
            "explode",
        ),
        (
            "bdev_layers: [{delay: {rules: [{fixed_us: 1, uniform_us: [1, 2]}]}}]",
            Code::BadValue,
            "{",
        ),
        ("env_vars: [NOVALUE]", Code::BadValue, "NOVALUE"),
        ("env_vars: [A=1, A=2]", Code::BadValue, "A=2"),
        ("env_vars: {A: 1}", Code::WrongType, "{"),
        (
            "bdev_list: [/mnt/daos/file]",
            Code::NestedPath,
            "/mnt/daos/file",
        ),
    ] {
        let text = format!("{SERVER}  {line}\n");
        let d = one(&text);
        assert_eq!((d.code, d.line), (code, Some(3)), "{d}");
        assert_eq!(underlined(&text, &d), caret, "{d}");
    }
    let text = format!("{SERVER}  bdev_layers: [{{fautl: {{}}}}]\n");
    assert_eq!(one(&text).hint.as_deref(), Some("did you mean \"fault\"?"));
    let text = "servers:\n- scm_mount: mnt/daos\n";
    assert_eq!(codes(&bad(text)), [Code::RelativePath]);
    assert_eq!(codes(&bad("servers:\n- scm_mount: /\n")), [Code::BadValue]);
    assert_eq!(codes(&bad("servers: []\n")), [Code::NoServers]);
    assert_eq!(codes(&bad("servers: {}\n")), [Code::WrongType]);
    assert_eq!(codes(&bad("servers: [1]\n")), [Code::WrongType]);
}

#[test]
fn all_errors_are_reported_in_the_order_of_the_file() {
    let text = "port: 0\nnmae: x\nservers:\n- scm_mount: /a\n  targets: x\n  scm_size: 0\n\
                - scm_mount: /a\n  rank: -1\n";
    let found = bad(text);
    assert_eq!(
        codes(&found),
        [
            Code::OutOfRange,
            Code::UnknownKey,
            Code::WrongType,
            Code::OutOfRange,
            Code::DuplicateScmMount,
            Code::OutOfRange
        ]
    );
    let lines: Vec<_> = found.iter().map(|d| d.line.unwrap()).collect();
    assert_eq!(lines, [1, 2, 5, 6, 7, 8]);
    assert!(parse(text).unwrap_err().to_string().contains("6 errors"));
}

#[test]
fn servers_must_not_share() {
    let two =
        |a: &str, b: &str| format!("servers:\n- scm_mount: /a\n  {a}\n- scm_mount: /b\n  {b}\n");
    for (a, b, code) in [
        (
            "bdev_list: ['0000:81:00.0']",
            "bdev_list: ['0000.81.00.0']",
            Code::DuplicateBdevDevice,
        ),
        (
            "bdev_list: ['0000:81:00.0/1']",
            "bdev_list: ['0000.81.00.0/2']",
            Code::DuplicateBdevDevice,
        ),
        (
            "bdev_list: ['81:00.0/1']",
            "bdev_list: ['0000.81.00.0/1']",
            Code::DuplicateBdevDevice,
        ),
        (
            "bdev_list: [/dev/sdb]",
            "bdev_list: [/dev//sdb]",
            Code::DuplicateBdevDevice,
        ),
        (
            "scm_list: [/dev/pmem0]",
            "scm_list: [/dev/pmem0]",
            Code::DuplicateScmDevice,
        ),
        (
            "scm_list: [/dev/pmem0]",
            "bdev_list: [/dev/pmem0]",
            Code::DuplicateBdevDevice,
        ),
        (
            "log_file: /tmp/x",
            "log_file: /tmp/./x",
            Code::DuplicateLogFile,
        ),
        ("rank: 1", "rank: 1", Code::DuplicateRank),
        (
            "{fabric_iface: i, fabric_iface_port: 1}",
            "{fabric_iface: i, fabric_iface_port: 1}",
            Code::DuplicateFabric,
        ),
        (
            "{first_core: 1, targets: 4}",
            "{first_core: 4, targets: 1}",
            Code::CoreOverlap,
        ),
    ] {
        let spread = |s: &str| {
            s.trim_matches(['{', '}'])
                .replace(", f", "\n  f")
                .replace(", t", "\n  t")
        };
        let text = two(&spread(a), &spread(b));
        let d = one(&text);
        assert_eq!(d.code, code, "{d}");
        let second = text.lines().position(|l| l.contains("/b")).unwrap() + 1;
        assert!(d.line.unwrap() as usize >= second, "{d}");
        assert!((d.related[0].line.unwrap() as usize) < second, "{d}");
        assert!(d.hint.is_some());
    }
    for (a, b) in [("/dev/null", "/dev/null"), ("/tmp/1", "/tmp/2")] {
        parse(&two(&format!("log_file: {a}"), &format!("log_file: {b}"))).unwrap();
    }
    assert_eq!(
        one(&two("rank: 0", "rank: 1").replace("/b", "/a/")).code,
        Code::DuplicateScmMount
    );
    assert_eq!(
        one(&two("rank: 0", "rank: 1").replace("/b", "/a/b")).code,
        Code::NestedPath
    );
    let text = two("log_file: /tmp/c", "rank: 1");
    let d = one(&format!("control_log_file: /tmp/c\n{text}"));
    assert_eq!(d.code, Code::DuplicateLogFile);
}

#[test]
fn keys_that_contradict_each_other() {
    for (text, code) in [
        ("fault_path: /a\nfault_cb: /b\n", Code::FaultPathAndCallback),
        (
            "fabric_iface: a\nfabric_ifaces: [b]\n",
            Code::ConflictingKeys,
        ),
        ("access_points: [a, b]\n", Code::EvenAccessPoints),
        ("access_points: [a, 'A:10001', b]\n", Code::AccessPoints),
        (
            "fabric_ifaces: [a, b, c]\nservers:\n- scm_mount: /a\n- scm_mount: /b\n",
            Code::ValueCount,
        ),
        (
            "fabric_ifaces: [a, b]\nservers:\n- scm_mount: /a\n",
            Code::ValueCount,
        ),
        (
            "bdev_exclude: ['81:00.0']\nservers:\n- {scm_mount: /a, bdev_list: ['0000:81:00.0']}\n",
            Code::BdevExcluded,
        ),
        (
            "bdev_include: ['82:00.0']\nservers:\n- {scm_mount: /a, bdev_list: ['0000:81:00.0']}\n",
            Code::BdevExcluded,
        ),
        ("plugins: {}\n", Code::ValueCount),
        ("plugins: {a: {sha256: abc}}\n", Code::BadValue),
        ("plugins: {a: {log_mask: LOUD}}\n", Code::BadValue),
        ("plugins: {a: {name: b}}\n", Code::ConflictingKeys),
        ("plugins: [{sha256: x}]\n", Code::MissingValue),
        ("plugins: {a: {setings: {}}}\n", Code::UnknownKey),
        ("plugins: {a: {settings: [1]}}\n", Code::WrongType),
        ("plugins: {a: {settings: {x: .inf}}}\n", Code::WrongType),
    ] {
        let d = one(text);
        assert_eq!(d.code, code, "{d}");
        assert!(d.line.is_some(), "{d}");
    }
}

#[test]
fn an_address_that_is_nearly_included_is_named() {
    let of = |device: &str| {
        one(&format!(
            "bdev_include: ['81:00.0', '0000.c1.00.0']\nservers:\n- {{scm_mount: /a, bdev_list: ['{device}']}}\n"
        ))
        .to_string()
    };
    assert!(of("0000:81:00.1").contains("did you mean 0000:81:00.0?"));
    assert!(of("1c:00.0").contains("did you mean 0000:c1:00.0?"));
    assert!(of("0000:42:13.7").contains("add it to bdev_include"));
}

#[test]
fn plugins_as_a_group_and_as_a_list() {
    let digest = "ab".repeat(32);
    let group = common::good(&format!(
        "plugins:\n  a: {{sha256: {digest}, settings: {{x: [1, {{y: z}}]}}, log_mask: debug}}\n  b:\n"
    ));
    let list = common::good(&format!(
        "plugins:\n- name: a\n  sha256: [{}]\n  settings: {{x: [1, {{y: z}}]}}\n  log_mask: debug\n- b\n",
        digest.to_uppercase()
    ));
    assert_eq!(group, list);
    assert!(group.allows_plugin("a") && group.allows_plugin("b") && !group.allows_plugin("c"));
    assert!(Config::default().allows_plugin("c"));
    assert_eq!(group.plugins.unwrap()["a"].sha256, [digest]);
}

#[test]
fn what_is_ignored_is_a_warning() {
    for (text, code) in [
        ("bdev_include:\n", Code::EmptyValue),
        ("nvme_include: ['81:00.0']\n", Code::OldName),
        (
            "servers:\n- {scm_mount: /a, log_mask: ERR, env_vars: [D_LOG_MASK=X]}\n",
            Code::EnvOverridden,
        ),
    ] {
        let loaded = parse(text).unwrap();
        assert_eq!(codes(&loaded.warnings), [code], "{text}");
    }
    let loaded = parse("servers:\n- {scm_mount: /a, env_vars: [D_LOG_MASK=X]}\n").unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn broken_yaml_is_one_error_with_a_place() {
    for (text, line) in [
        ("name: [a\n", 1),
        ("a: b: c\n", 1),
        ("servers:\n\t- x\n", 2),
        ("name: \"a\n", 1),
        ("x: *nowhere\n", 1),
        ("x: !custom 1\n", 1),
    ] {
        let d = one(text);
        assert_eq!(d.code, Code::Syntax, "{d}");
        assert_eq!(d.line, Some(line), "{d}");
        assert!(!d.message.contains("line"), "{d}");
    }
    for text in ["name: a\n---\nname: b\n", "[1, 2]\n", "text\n", "\u{0}\n"] {
        assert_eq!(bad(text).len(), 1, "{text:?}");
    }
}

#[test]
fn hostile_input_ends_quickly() {
    let bomb: String = (1..20)
        .map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{}, ", i - 1).repeat(9)))
        .collect();
    let texts = [
        format!("a0: &a0 [x]\n{bomb}"),
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        format!("name: {}\n", "x".repeat(900_000)),
        format!("? {}\n: 1\n", "k".repeat(900_000)),
        format!("servers:\n{}", "- {scm_mount: /a}\n".repeat(5000)),
        format!("servers:\n- bdev_list: [{}]\n", "/a, ".repeat(3000)),
        (0..3000).map(|i| format!("key{i}: 1\n")).collect(),
        "a".repeat(2 << 20),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        let errors = parse(&text).unwrap_err();
        assert!(start.elapsed().as_secs() < 20, "{}", &text[..20]);
        assert!(errors.diagnostics.len() <= 101);
        assert!(errors.to_string().len() < 200_000);
    }
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let load = |p: &std::path::Path| Config::load(p, &Overrides::default()).unwrap_err();
    let missing = dir.path().join("none.yml");
    let error = load(&missing);
    assert_eq!(error.diagnostics[0].code, Code::Unreadable);
    assert!(error.to_string().contains("none.yml"));
    assert!(load(dir.path()).to_string().contains("regular file"));
    assert!(
        load(std::path::Path::new("/dev/zero"))
            .to_string()
            .contains("regular file")
    );
    let binary = dir.path().join("b.yml");
    std::fs::write(&binary, b"name: a\nx: \xff\n").unwrap();
    let d = &load(&binary).diagnostics[0];
    assert_eq!((d.line, d.column), (Some(2), Some(4)));
    let large = dir.path().join("l.yml");
    std::fs::write(&large, "#".repeat(3 << 20)).unwrap();
    assert!(load(&large).to_string().contains("at most 1048576"));
}
