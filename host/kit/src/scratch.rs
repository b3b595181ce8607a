//! A directory of its own for a class that needs paths and was given none.

use daos_plugin_api::control::ClassKind;
use serde_json::{Map, Value};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What paths of an example start with that are to lie in such a directory.
const WORD: &str = "$SCRATCH";

/// A private directory; removed with everything in it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("daos-plugin-check-{}-{number}", std::process::id());
            let path = parent.join(name);
            // Makes it or fails: nothing that somebody else put there is ever used.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in use by what the plugin left behind; the report says that.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether a value of an example is to lie in a directory of its own.
pub(crate) fn is_meant(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(WORD),
        Value::Array(list) => list.iter().any(is_meant),
        _ => false,
    }
}

/// Puts a directory into a config that means one: in memory for SCM, else where temporary files lie.
pub(crate) fn take(
    kind: ClassKind,
    config: &mut Map<String, Value>,
) -> Result<Option<Arc<Scratch>>, String> {
    if !config.values().any(is_meant) {
        return Ok(None);
    }
    let parent = match kind {
        ClassKind::Scm => PathBuf::from("/dev/shm"),
        ClassKind::Bdev | ClassKind::Fabric => std::env::temp_dir(),
    };
    let made = Scratch::new(&parent).map_err(|e| {
        format!(
            "cannot make a directory in {}: {e}; name what to run on with --device",
            parent.display()
        )
    })?;
    for value in config.values_mut() {
        fill(value, &made.0);
    }
    Ok(Some(Arc::new(made)))
}

fn fill(value: &mut Value, directory: &Path) {
    match value {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(WORD) {
                *text = format!("{}{rest}", directory.display());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| fill(value, directory)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_directory_stands_where_an_example_means_one_and_goes_with_it() {
        let Value::Object(mut config) = json!({ "bdev_list": ["$SCRATCH/a", "/b"], "n": 1 }) else {
            unreachable!("an object")
        };
        let scratch = take(ClassKind::Bdev, &mut config)
            .expect("made")
            .expect("meant");
        let path = scratch.0.clone();
        assert!(path.is_dir());
        assert_eq!(config["bdev_list"], json!([path.join("a"), "/b"]));
        fs::write(path.join("a"), "x").expect("writable");
        drop(scratch);
        assert!(!path.exists());
        assert!(
            take(ClassKind::Bdev, &mut config)
                .expect("nothing to make")
                .is_none()
        );
    }
}
