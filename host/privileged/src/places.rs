//! Places that root is about to touch on behalf of somebody else.

use daos_loader::Trust;
use serde_json::{Map, Value};
use std::path::{Component, Path};

/// The key whose value is a mount point: what is mounted there is the user's.
const MOUNT: &str = "scm_mount";

/// Why others than root could make a place lead elsewhere that `keys`, of a class or a plugin, or a device's `address`
/// name; `None` = they could not. What stands for no path (PCI addresses, NUMA nodes) leads nowhere else.
pub(crate) fn doubt(
    keys: &Map<String, Value>,
    address: Option<&str>,
    root: Trust,
) -> Option<String> {
    let mut named = Vec::new();
    keys.values().for_each(|value| texts(value, &mut named));
    named.extend(address);
    // A device and a mount point are touched themselves; in another directory something is looked up.
    let is_end =
        |text| address == Some(text) || keys.get(MOUNT).and_then(Value::as_str) == Some(text);
    named
        .into_iter()
        .filter(|text| text.starts_with('/'))
        .find_map(|text| {
            let path = Path::new(text);
            let looked_up = !is_end(text) && path.is_dir();
            check(path, looked_up, root).err()
        })
}

/// All texts in a value.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|v| texts(v, found)),
        Value::Object(values) => values.values().for_each(|v| texts(v, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Refuses a path that others than root could make lead elsewhere: each directory above it must be root's and closed to
/// others, and there may be no link on the way. What the path itself names may be anybody's, but no link; unless names
/// are `looked_up` in it.
///
/// # Errors
/// A sentence.
fn check(path: &Path, looked_up: bool, root: Trust) -> Result<(), String> {
    let shown = path.display();
    let plain = |c: Component<'_>| matches!(c, Component::RootDir | Component::Normal(_));
    let parent = path
        .parent()
        .filter(|_| path.is_absolute() && path.components().all(plain));
    let Some(parent) = parent else {
        return Err(format!("{shown} is no absolute path without `..`"));
    };
    let is_link = |p: &&Path| std::fs::symlink_metadata(p).is_ok_and(|m| m.is_symlink());
    if let Some(link) = path.ancestors().find(is_link) {
        return Err(format!(
            "{} on the way to {shown} is a symbolic link",
            link.display()
        ));
    }
    let last = if looked_up { path } else { parent };
    root.search_directory(last).map_err(|refusal| {
        format!("others than root could exchange {shown}: {refusal}; put it below directories that only root can write to")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    /// Why not, with `DIR` for the directory of the test, whose subdirectory `open` everybody may write to.
    fn told(keys: &Value, address: Option<&str>) -> Option<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for name in ["open", "closed", "open/inner"] {
            std::fs::create_dir(path(name)).expect("our directory");
        }
        std::fs::set_permissions(path("open"), PermissionsExt::from_mode(0o777)).expect("ours");
        std::fs::write(path("file"), "").expect("our file");
        std::os::unix::fs::symlink(path("closed"), path("link")).expect("our link");
        let dir = dir.path().display().to_string();
        let keys: Value =
            serde_json::from_str(&keys.to_string().replace("DIR", &dir)).expect("still JSON");
        let address = address.map(|a| a.replace("DIR", &dir));
        let keys = keys.as_object().expect("an object");
        // Whoever runs the tests owns the directory.
        doubt(keys, address.as_deref(), Trust::current())
    }

    #[test]
    fn what_only_the_administrator_can_exchange_is_not_doubted() {
        for (keys, address) in [
            (json!({}), None),
            (
                json!({"bdev_list": ["0000:81:00.0"], "bdev_number": 1}),
                Some("0000:81:00.0"),
            ),
            (json!({"bdev_list": ["DIR/file"]}), Some("DIR/file")),
            (
                json!({"scm_list": ["DIR/closed"], "scm_mount": "DIR/closed/scm"}),
                None,
            ),
            // What is there may be the user's.
            (json!({"scm_mount": "DIR/open"}), None),
            (json!({"bdev_list": ["DIR/open"]}), Some("DIR/open")),
            (json!({"scm_mount": "DIR/to/come"}), None),
        ] {
            assert_eq!(told(&keys, address), None, "{keys} {address:?}");
        }
    }

    #[test]
    fn what_others_can_exchange_is_doubted_wherever_it_is_named() {
        for (keys, address, word) in [
            (
                json!({"scm_list": ["DIR/open"], "scm_mount": "DIR/closed"}),
                None,
                "/open",
            ),
            (json!({"scm_mount": "DIR/open/inner"}), None, "/open"),
            (json!({"scm_mount": "DIR/open/to/come"}), None, "/open"),
            (json!({"scm_mount": "DIR/link"}), None, "symbolic link"),
            (json!({"scm_mount": "DIR/link/scm"}), None, "symbolic link"),
            (
                json!({"deep": {"er": [{"and": "DIR/open/inner"}]}}),
                None,
                "/open",
            ),
            (json!({"bdev_list": ["/etc/../DIR"]}), None, "`..`"),
            (json!({}), Some("DIR/open/inner"), "/open"),
        ] {
            let told = told(&keys, address).unwrap_or_default();
            assert!(told.contains(word), "{keys} {address:?}: {told:?}");
        }
    }
}
