//! Whatever the input: no panic, places that exist, and a configuration that survives being
//! written out and read back.

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::{class, parse, schemas};
use daos_config::{ClassKind, Config, Diagnostic, Overrides};
use proptest::prelude::*;

/// Everything that can be done with an input.
fn exercise(bytes: &[u8]) {
    let overrides = Overrides {
        port: Some(10003),
        storage: Some("/mnt/daos".into()),
        targets: Some(1),
        ..Overrides::default()
    };
    for overrides in [Overrides::default(), overrides] {
        match Config::parse_bytes(bytes, "fuzz.yml", &overrides) {
            Ok(loaded) => {
                check_places(bytes, &loaded.warnings);
                let config = loaded.config;
                check_places(bytes, &config.check_classes(&schemas()));
                let keys = config.immutable_keys();
                assert_eq!(config.check_immutable(None, &keys, &schemas()), []);
                round_trip(&config);
            }
            Err(errors) => {
                assert!(errors.errors().next().is_some());
                check_places(bytes, &errors.diagnostics);
                let text = errors.to_string();
                assert!(
                    text.chars().all(|c| c == '\n' || !c.is_control()),
                    "{text:?}"
                );
            }
        }
    }
}

fn check_places(bytes: &[u8], found: &[Diagnostic]) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().count().max(1);
    for d in found {
        serde_json::to_string(d).unwrap();
        assert!(!d.to_string().is_empty());
        let Some(line) = d.line else {
            continue;
        };
        // The end of the text counts as a place.
        assert!((1..=lines + 1).contains(&(line as usize)), "{d}\n{text:?}");
        assert!(d.column.unwrap() >= 1, "{d}");
    }
}

fn round_trip(config: &Config) {
    let yaml = config.to_yaml().unwrap();
    let again = parse(&yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    assert_eq!(&again.config, config, "{yaml}");
    assert_eq!(again.config.to_yaml().unwrap(), yaml);
}

fn example_texts() -> Vec<String> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yml") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
    assert!(texts.len() >= 6);
    texts.sort();
    // Uncommented, the large one has every key.
    let all: String = daos_config::example()
        .lines()
        .filter(|l| !l.starts_with("# "))
        .map(|l| format!("{}\n", l.strip_prefix('#').unwrap_or(l)))
        .collect();
    parse(&all).unwrap();
    texts.push(all);
    texts
}

#[derive(Clone, Debug)]
enum Mutation {
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, &'static str),
    Repeat(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    let token = prop::sample::select(vec![
        "\n",
        " ",
        "\t",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "#",
        "&a ",
        "*a",
        "<<: *a\n",
        "!!int ",
        "? ",
        "|\n",
        ">-\n",
        "~",
        "null",
        "0",
        "-1",
        "1e999",
        ".nan",
        "0x7f",
        "true",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
        "\u{feff}",
        "\u{0}",
        "\u{85}",
        "\u{2028}",
        "ä",
        "\u{1f600}",
        "servers:\n",
        "storage:\n",
        "  - class: ram\n",
        "env_vars:\n",
        "/",
    ]);
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(i, b)| Mutation::Byte(i, b)),
        (index(), 1usize..40).prop_map(|(i, n)| Mutation::Cut(i, n)),
        (index(), token).prop_map(|(i, t)| Mutation::Insert(i, t)),
        index().prop_map(Mutation::Repeat),
        (index(), index()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutate(text: &str, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for m in mutations {
        let len = bytes.len().max(1);
        match m {
            Mutation::Byte(i, b) => {
                if let Some(byte) = bytes.get_mut(i.index(len)) {
                    *byte = *b;
                }
            }
            Mutation::Cut(i, n) => {
                let start = i.index(len).min(bytes.len());
                let end = (start + n).min(bytes.len());
                bytes.drain(start..end);
            }
            Mutation::Insert(i, t) => {
                let at = i.index(len).min(bytes.len());
                bytes.splice(at..at, t.bytes());
            }
            Mutation::Repeat(i) => with_lines(&mut bytes, |lines| {
                let at = i.index(lines.len());
                lines.insert(at, lines[at].clone());
            }),
            Mutation::Swap(a, b) => with_lines(&mut bytes, |lines| {
                let len = lines.len();
                lines.swap(a.index(len), b.index(len));
            }),
        }
    }
    bytes
}

fn with_lines(bytes: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    change(&mut lines);
    *bytes = lines.join(&b'\n');
}

/// YAML scalars that are easily mistaken for something else when written without quotes.
fn tricky() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.=:+,/ #'\"-]{1,12}",
        prop::sample::select(vec![
            "true",
            "no",
            "Off",
            "~",
            "null",
            "0755",
            "1_000",
            "1e3",
            ".inf",
            "0x1f",
            "12:30:45",
            "- x",
            "a: b",
            "a #b",
            "*a",
            "&a",
            "!x",
            "%x",
            "@x",
            "`x",
            "{x",
            "[x",
            "|",
            ">",
            "'",
            "ä\u{1f600}",
            " lead",
            "trail ",
            "=",
            "<<",
            "1.0",
            "-0",
            "+1",
            "2026-01-01",
        ])
        .prop_map(str::to_owned),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Into::into),
        tricky().prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-z0-9_.-]{1,6}", inner, 0..4)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

/// A line `key: value`, or nothing.
fn line(key: &'static str, value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    prop_oneof![
        1 => Just(String::new()),
        2 => value.prop_map(move |v| format!("{key}: {v}\n")),
    ]
    .boxed()
}

fn number(max: u64) -> BoxedStrategy<String> {
    prop_oneof![1 => Just(1), 4 => 1..=max]
        .prop_map(|n| n.to_string())
        .boxed()
}

/// A JSON string is a YAML string.
fn quoted(text: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    text.prop_map(|t| serde_json::to_string(&t).unwrap())
        .boxed()
}

fn server(index: usize) -> impl Strategy<Value = String> {
    let device = (0u8..=255).prop_map(move |bus| format!("[0000.{bus:02X}.0{index}.0]"));
    let env = tricky().prop_map(|v| vec![format!("A={v}"), "B=".to_owned()]);
    let lines = vec![
        line("rank", Just(index.to_string()).boxed()),
        line("targets", number(1024)),
        line("nr_xs_helpers", number(2)),
        line("name", quoted("[a-z0-9][a-z0-9_.]{0,8}")),
        line("socket_dir", quoted(tricky())),
        line("modules", quoted(tricky())),
        line("log_mask", quoted("(ERR|crit|warn|INFO,dtx=DEBUG)")),
        line(
            "log_file",
            quoted(tricky().prop_map(move |t| format!("/l{index}/{t}"))),
        ),
        line(
            "env_vars",
            env.prop_map(|e| serde_json::to_string(&e).unwrap()).boxed(),
        ),
        line("provider", quoted("(tcp|ofi\\+tcp|ofi\\+verbs;ofi_rxm|1)")),
        line("fabric_iface", quoted("[a-z0-9]{1,5}")),
        line("scm_class", quoted("(ram|dcpm|on|7)")),
        line("scm_size", number(1_000_000)),
        line("bdev_class", quoted("(nvme|file|no|acme)")),
        line("bdev_list", device.boxed()),
        line("bdev_number", number(1024)),
        line("bdev_size", number(1_000_000)),
        line("acme_key", json().prop_map(|j| j.to_string()).boxed()),
    ];
    lines.prop_map(move |lines| {
        let mut text = format!("-\n  scm_mount: /m{index}\n");
        for line in lines.iter().filter(|l| !l.is_empty()) {
            let _ = write!(text, "  {line}");
        }
        text
    })
}

fn config_text() -> impl Strategy<Value = String> {
    let settings = json().prop_map(|j| format!("{{p: {{settings: {{s: {j}}}}}, q: }}"));
    let top = vec![
        line("name", quoted("[a-z0-9][a-z0-9_.]{0,8}")),
        line(
            "access_points",
            Just("[a, 'b:1', '[::1]:7']".to_owned()).boxed(),
        ),
        line("port", number(65535)),
        line(
            "transport_config",
            quoted(tricky())
                .prop_map(|t| format!("{{cert: {t}}}"))
                .boxed(),
        ),
        line("fault_path", quoted("(/[a-z0-9]{1,4}){1,3}")),
        line("control_iface", quoted("[a-z]{1,4}[0-9]")),
        line("fabric_ifaces", Just("ib0".to_owned()).boxed()),
        line("provider", quoted("(tcp|ofi\\+psm2)")),
        line("hyperthreads", quoted("(yes|no|on|off)")),
        line("nr_hugepages", number(16_777_216)),
        line("control_log_mask", quoted("(ERROR|debug|Disabled)")),
        line(
            "control_log_file",
            quoted(tricky().prop_map(|t| format!("/c/{t}"))),
        ),
        line("control_log_json", Just("1".to_owned()).boxed()),
        line("user_name", quoted("[a-z0-9]{1,8}")),
        line("attach", quoted(tricky())),
        line(
            "plugins_dir",
            quoted(tricky().prop_map(|t| format!("/p/{t}"))),
        ),
        line("plugins", settings.boxed()),
        line(
            "state_dir",
            quoted(tricky().prop_map(|t| format!("/s/{t}"))),
        ),
    ];
    let servers = prop::collection::vec(Just(()), 0..3)
        .prop_flat_map(|v| (0..v.len()).map(|i| server(i).boxed()).collect::<Vec<_>>());
    (top, servers).prop_map(|(top, servers)| {
        let mut text = top.concat();
        if !servers.is_empty() {
            let _ = write!(text, "servers:\n{}", servers.concat());
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(\\PC|[ \\n\t:#'\"\\[\\]{},&*!|>-]){0,200}") {
        exercise(text.as_bytes());
    }

    #[test]
    fn mutated_examples_never_panic(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let texts = example_texts();
        exercise(&mutate(which.get::<String>(&texts), &mutations));
    }

    #[test]
    fn what_is_in_effect_loads_as_the_same_configuration(text in config_text()) {
        let loaded = parse(&text);
        prop_assert!(loaded.is_ok(), "{}\n{}", loaded.unwrap_err(), text);
        round_trip(&loaded.unwrap().config);
    }

    #[test]
    fn schemas_of_strangers_never_panic(schema in json(), keyword in "(type|enum|const|minimum|maximum|minLength|maxItems|pattern|items|uniqueItems|properties|required|additionalProperties|x-y|other)", value in json()) {
        let nested = serde_json::json!({"properties": {"acme_key": {keyword: schema.clone()}}});
        let text = format!("servers:\n- scm_mount: /a\n  bdev_class: s\n  acme_key: {value}\n");
        let config = parse(&text).map_err(|e| TestCaseError::reject(e.to_string()))?.config;
        for schema in [schema, nested] {
            let all = [
                class(ClassKind::Bdev, "s", "s", schema.clone()),
                class(ClassKind::Scm, "dcpm", "d", schema),
            ];
            check_places(text.as_bytes(), &config.check_classes(&all));
        }
    }
}
