//! What the tests share: class schemas of the shape that real plugins declare.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use daos_config::{
    ClassKind, ClassSchema, Code, Config, ConfigErrors, Diagnostic, Loaded, Overrides,
};
use serde_json::{Value, json};

pub fn class(kind: ClassKind, class: &str, plugin: &str, schema: Value) -> ClassSchema {
    ClassSchema {
        kind,
        class: class.to_owned(),
        plugin: plugin.to_owned(),
        schema,
        exclusive: Vec::new(),
    }
}

pub fn schemas() -> Vec<ClassSchema> {
    let paths = |max: Option<u32>| {
        let mut list = json!({
            "type": "array", "minItems": 1, "uniqueItems": true,
            "items": {"type": "string", "pattern": "^/"},
        });
        if let Some(max) = max {
            list["maxItems"] = max.into();
        }
        list
    };
    let gb = json!({"type": "integer", "minimum": 1, "description": "size in GB"});
    vec![
        class(
            ClassKind::Scm,
            "ram",
            "scm-ram",
            json!({
                "type": "object", "additionalProperties": false, "required": ["scm_size"],
                "properties": {"scm_mount": {"type": "string"}, "scm_size": gb},
            }),
        ),
        class(
            ClassKind::Scm,
            "dcpm",
            "scm-dcpm",
            json!({
                "type": "object", "required": ["scm_list"],
                "properties": {"scm_list": paths(Some(1))},
            }),
        ),
        class(
            ClassKind::Bdev,
            "nvme",
            "bdev-nvme-spdk",
            json!({
                "type": "object", "required": ["bdev_list"],
                "properties": {
                    "bdev_list": {
                        "type": "array", "minItems": 1,
                        "items": {
                            "type": "string",
                            "pattern": "^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\\.[0-7]$",
                        },
                    },
                    "bdev_retry_count": {
                        "type": "integer", "minimum": 0, "maximum": 255, "x-mutable": true,
                    },
                },
            }),
        ),
        class(
            ClassKind::Bdev,
            "file",
            "bdev-file",
            json!({
                "type": "object", "required": ["bdev_list", "bdev_size"],
                "properties": {"bdev_list": paths(None), "bdev_size": gb},
                "additionalProperties": false,
            }),
        ),
        class(
            ClassKind::Bdev,
            "kdev",
            "bdev-kdev",
            json!({
                "type": "object", "required": ["bdev_list"],
                "properties": {"bdev_list": paths(None)},
            }),
        ),
        class(
            ClassKind::Bdev,
            "malloc",
            "bdev-malloc",
            json!({
                "type": "object", "required": ["bdev_number", "bdev_size"],
                "properties": {"bdev_number": {"type": "integer", "maximum": 64}, "bdev_size": gb},
            }),
        ),
        class(
            ClassKind::Bdev,
            "acme",
            "bdev-acme",
            json!({
                "type": "object", "required": ["acme_shelf"],
                "properties": {
                    "acme_shelf": {"type": "integer", "minimum": 1, "maximum": 8},
                    "acme_mode": {"enum": ["fast", "safe"], "description": "how to write"},
                    "acme_paths": {
                        "type": "array",
                        "items": {
                            "type": "object", "required": ["wwn"],
                            "properties": {"wwn": {"type": "string", "minLength": 4}},
                            "additionalProperties": false,
                        },
                    },
                },
            }),
        ),
        class(
            ClassKind::Fabric,
            "tcp",
            "fabric-tcp",
            json!({"type": "object"}),
        ),
        class(
            ClassKind::Fabric,
            "ofi",
            "fabric-ofi",
            json!({"type": "object", "properties": {"ofi_domain": {"type": "string"}}}),
        ),
    ]
}

pub fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    Config::parse(text, "t.yml", &Overrides::default())
}

pub fn good(text: &str) -> Config {
    match parse(text) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

pub fn bad(text: &str) -> Vec<Diagnostic> {
    match parse(text) {
        Ok(loaded) => panic!("accepted: {:#?}\n{text}", loaded.config),
        Err(errors) => errors.errors().cloned().collect(),
    }
}

/// The only error of `text`.
pub fn one(text: &str) -> Diagnostic {
    let errors = bad(text);
    assert_eq!(errors.len(), 1, "{errors:#?}\n{text}");
    errors.into_iter().next().unwrap()
}

pub fn codes(found: &[Diagnostic]) -> Vec<Code> {
    found.iter().map(|d| d.code).collect()
}

/// The text that the caret of a finding underlines.
pub fn underlined(text: &str, d: &Diagnostic) -> String {
    let line = text.lines().nth(d.line.unwrap() as usize - 1).unwrap();
    line.chars()
        .skip(d.column.unwrap() as usize - 1)
        .take(d.length.unwrap() as usize)
        .collect()
}

/// A server that needs nothing else.
pub const SERVER: &str = "servers:\n- scm_mount: /mnt/daos\n";
