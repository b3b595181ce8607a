//! Which class of a file is tried, and with what: what the command line says, laid over what the
//! plugin offers.

use crate::protocol::Subject;
use crate::scratch;
use daos_loader::PluginInfo;
use daos_plugin_api::control::{Class, ClassKind};
use serde_json::{Map, Value};

/// What the command line says about the subject.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Class name, or provider of a fabric.
    pub class: Option<String>,
    /// Keys of the class config.
    pub config: Map<String, Value>,
    /// Settings of the plugin.
    pub settings: Map<String, Value>,
    /// Paths or addresses of block devices, the mount point of SCM, the interface of a fabric.
    pub devices: Vec<String>,
    /// Let `format` overwrite what is not ours.
    pub overwrite_foreign: bool,
}

/// Puts a subject together. A class without a config gets the first of its schema's `examples`; in it, `$SCRATCH` at the
/// start of a path is a directory that is made for the subject and removed with it. The example of a fabric's class
/// names the provider that stands for it.
///
/// # Errors
/// A sentence for whoever typed the command: no such class, a key that is missing.
pub fn choose(info: &PluginInfo, choice: &Choice) -> Result<Subject, String> {
    let (class, mut name) = class(info, choice.class.as_deref())?;
    let mut config = example(class);
    if let Some(Value::String(provider)) = config.remove("provider")
        && name == class.name
    {
        name = provider;
    }
    let given = given(class.kind, &choice.devices, &choice.config)?;
    known(class, &name, &given)?;
    if given.keys().any(|key| STORAGE.contains(&key.as_str())) {
        // Storage is the user's, all of it or none.
        config.retain(|_, value| !scratch::is_meant(value));
    }
    config.extend(given);
    let scratch = scratch::take(class.kind, &mut config)?;
    // The interface that every machine has.
    if class.kind == ClassKind::Fabric && !config.contains_key("interface") {
        config.insert("interface".to_owned(), Value::from("lo"));
    }
    let required = class.schema.get("required").and_then(Value::as_array);
    let missing: Vec<&str> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|key| !config.contains_key(*key))
        .collect();
    if let Some(key) = missing.first() {
        let said = property(class, key, "description").and_then(Value::as_str);
        let said = said.map_or(String::new(), |text| format!(" ({text})"));
        return Err(format!(
            "class {name} needs {}{said}: give {}",
            missing.join(", "),
            way(key)
        ));
    }
    // Such a class takes what it finds.
    let open =
        |key: &&&str| property(class, key, "x-default").is_some() && !config.contains_key(**key);
    if let Some(key) = STORAGE.iter().find(open) {
        return Err(format!(
            "class {name} takes storage that it finds where {key} names none, and what is on it is lost: give {}",
            way(key)
        ));
    }
    let path = info.path().ok_or("a built-in plugin has no file")?;
    Ok(Subject {
        file: path.to_owned(),
        plugin: info.name().to_owned(),
        version: info.manifest.version.clone(),
        interface: info.abi.to_string(),
        kind: class.kind,
        class: name,
        config,
        settings: choice.settings.clone(),
        overwrite_foreign: choice.overwrite_foreign,
        _scratch: scratch,
    })
}

/// Keys that name storage.
const STORAGE: [&str; 3] = ["bdev_list", "scm_mount", "scm_list"];

/// How a key is given on the command line.
fn way(key: &str) -> String {
    match key {
        "bdev_list" => "--device PATH_OR_ADDRESS, its contents are lost".to_owned(),
        "scm_mount" => "--device MOUNT_POINT, its contents are lost".to_owned(),
        "scm_list" => {
            "--class-config '{\"scm_list\": [\"/dev/pmem0\"]}', its contents are lost".to_owned()
        }
        other => format!("--class-config '{{\"{other}\": ...}}'"),
    }
}

fn property<'a>(class: &'a Class, key: &str, what: &str) -> Option<&'a Value> {
    class.schema.get("properties")?.get(key)?.get(what)
}

fn class<'a>(info: &'a PluginInfo, wanted: Option<&str>) -> Result<(&'a Class, String), String> {
    let classes = &info.manifest.classes;
    let names = || {
        let names: Vec<_> = classes.iter().map(|c| c.name.as_str()).collect();
        names.join(", ")
    };
    let Some(wanted) = wanted else {
        return match classes.as_slice() {
            [] => Err(format!("plugin {} declares no class", info.name())),
            [only] => Ok((only, only.name.clone())),
            // Names of a fabric's providers are ways to the same code, the first is its own.
            [first, ..] if classes.iter().all(|c| c.kind == ClassKind::Fabric) => {
                Ok((first, first.name.clone()))
            }
            _ => Err(format!(
                "plugin {} has several classes ({}): choose one with --class",
                info.name(),
                names()
            )),
        };
    };
    if let Some(class) = classes.iter().find(|c| c.name == wanted) {
        return Ok((class, wanted.to_owned()));
    }
    // A provider of a family: `ofi+tcp;ofi_rxm` of the class `ofi`.
    if info.serves(wanted)
        && let Some(class) = classes.iter().find(|c| c.kind == ClassKind::Fabric)
    {
        return Ok((class, wanted.to_owned()));
    }
    Err(format!(
        "plugin {} has no class {wanted}, only {}",
        info.name(),
        names()
    ))
}

fn example(class: &Class) -> Map<String, Value> {
    let examples = class.schema.get("examples").and_then(Value::as_array);
    let first = examples.and_then(|list| list.first());
    first
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// What the command line says of the config.
fn given(
    kind: ClassKind,
    devices: &[String],
    config: &Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    let mut given = config.clone();
    let (key, value) = match (kind, devices) {
        (_, []) => return Ok(given),
        (ClassKind::Bdev, list) => ("bdev_list", Value::from(list.to_vec())),
        (ClassKind::Scm, [one]) => ("scm_mount", Value::from(one.clone())),
        (ClassKind::Fabric, [one]) => ("interface", Value::from(one.clone())),
        (kind, _) => return Err(format!("a class of kind {kind} takes one --device")),
    };
    given.insert(key.to_owned(), value);
    Ok(given)
}

/// A key that the class does not have would be tried in vain: the daemon refuses it, and plugins never see it.
fn known(class: &Class, name: &str, given: &Map<String, Value>) -> Result<(), String> {
    let properties = class.schema.get("properties").and_then(Value::as_object);
    let (Some(properties), false) = (properties, class.kind == ClassKind::Fabric) else {
        return Ok(());
    };
    let Some(unknown) = given.keys().find(|key| !properties.contains_key(*key)) else {
        return Ok(());
    };
    let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
    let why = match unknown.as_str() {
        "bdev_list" | "scm_mount" => ", so it takes no --device",
        _ => "",
    };
    Err(format!(
        "class {name} has no key {unknown}{why}; its schema has {}",
        keys.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_loader::{AbiVersion, Origin};
    use serde_json::json;

    fn plugin(classes: Value) -> PluginInfo {
        let manifest = json!({"name": "p", "version": "1", "classes": classes});
        PluginInfo {
            manifest: serde_json::from_value(manifest).expect("a manifest"),
            abi: AbiVersion::HOST,
            rust: true,
            origin: Origin::BuiltIn,
            sha256: None,
        }
    }

    #[test]
    fn the_command_line_wins_over_the_plugins_example() {
        let class =
            json!({"kind": "bdev", "name": "c", "schema": {"examples": [{"a": 1, "b": 2}]}});
        let info = plugin(json!([class]));
        let (class, _) = class_of(&info);
        assert_eq!(Value::Object(example(class)), json!({"a": 1, "b": 2}));
        let given = given(ClassKind::Bdev, &["/x".into()], &Map::new()).expect("any number");
        assert_eq!(given["bdev_list"], json!(["/x"]));
        known(class, "c", &given).expect("the schema names no keys");
    }

    #[test]
    fn keys_that_the_class_does_not_have_are_refused_by_name() {
        let schema = json!({"properties": {"bdev_size_mib": {}, "depth": {}}});
        let info = plugin(json!([{"kind": "bdev", "name": "c", "schema": schema}]));
        let (class, _) = class_of(&info);
        let key = |key: &str| Map::from_iter([(key.to_owned(), Value::from(1))]);
        known(class, "c", &key("depth")).expect("it has that one");
        for (wrong, words) in [
            (
                "dept",
                "class c has no key dept; its schema has bdev_size_mib, depth",
            ),
            ("bdev_list", "takes no --device"),
        ] {
            let error = known(class, "c", &key(wrong)).expect_err(wrong);
            assert!(error.contains(words), "{error}");
        }
    }

    fn class_of(info: &PluginInfo) -> (&Class, String) {
        class(info, None).expect("one class")
    }

    #[test]
    fn several_classes_want_a_choice_and_wrong_ones_are_named() {
        let one = json!({"kind": "bdev", "name": "a"});
        let two = json!({"kind": "scm", "name": "b"});
        let info = plugin(json!([one, two]));
        let error = class(&info, None).expect_err("ambiguous");
        assert!(
            error.contains("a, b") && error.contains("--class"),
            "{error}"
        );
        assert_eq!(class(&info, Some("b")).expect("b").1, "b");
        let error = class(&info, Some("c")).expect_err("unknown");
        assert!(error.contains("no class c"), "{error}");
    }

    #[test]
    fn scm_and_fabric_take_one_device() {
        let two = ["a".to_owned(), "b".to_owned()];
        for kind in [ClassKind::Scm, ClassKind::Fabric] {
            assert!(given(kind, &two, &Map::new()).is_err());
            assert_eq!(given(kind, &two[..1], &Map::new()).expect("one").len(), 1);
        }
    }
}
