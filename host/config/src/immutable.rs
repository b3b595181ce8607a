//! Keys that must not change after format, and the comparison with what was recorded then.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::classes::{ClassKind, ClassSchema};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Config;
use crate::schema;

/// An immutable key and its value; `null` where the key is absent and something is chosen
/// automatically.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImmutableKey {
    /// The key's name within its group.
    pub key: String,
    /// Its normalised value.
    pub value: Value,
}

fn entry(key: &str, value: impl Into<Value>) -> ImmutableKey {
    ImmutableKey {
        key: key.to_owned(),
        value: value.into(),
    }
}

impl Config {
    /// The immutable keys of the file as a whole, for the superblock.
    #[must_use]
    pub fn immutable_keys(&self) -> Vec<ImmutableKey> {
        let points: Vec<String> = self.access_points.iter().map(ToString::to_string).collect();
        let callback = self.fault_cb.as_ref();
        vec![
            entry("name", self.name.clone()),
            entry("access_points", points),
            entry("fault_path", self.fault_path.clone()),
            entry(
                "fault_cb",
                callback.map(|p| p.to_string_lossy().into_owned()),
            ),
            entry("bdev_include", self.bdev_include.clone()),
            entry("bdev_exclude", self.bdev_exclude.clone()),
        ]
    }

    /// The immutable keys of one server, for its superblock: those of the standard list, and
    /// the bdev class's own keys except where its schema says `"x-mutable": true`. Empty for a
    /// server that does not exist.
    #[must_use]
    pub fn immutable_server_keys(
        &self,
        server: usize,
        schemas: &[ClassSchema],
    ) -> Vec<ImmutableKey> {
        let Some(s) = self.servers.get(server) else {
            return Vec::new();
        };
        let mut keys = vec![
            entry("rank", s.rank),
            entry("targets", s.targets),
            entry("nr_xs_helpers", s.nr_xs_helpers),
            entry("first_core", s.first_core),
            entry("bdev_class", s.bdev_class.clone()),
            entry("bdev_list", s.bdev_list.clone()),
            entry("bdev_number", s.bdev_number),
            entry("bdev_size", s.bdev_size),
        ];
        if let Some(class) = self.class_of(server, ClassKind::Bdev, schemas) {
            for (key, value) in &s.extra {
                if let Some(property) = schema::property(&class.schema, key)
                    && property.get("x-mutable") != Some(&Value::Bool(true))
                {
                    keys.push(entry(key, value.clone()));
                }
            }
        }
        keys
    }

    /// Compares with what the superblock recorded; `server` is `None` for the keys of the
    /// file as a whole. Each change is an error that names key, old and new value.
    ///
    /// A rank that is no longer given keeps the recorded one: it was and stays automatic.
    /// Keys that were not recorded (by an older version) are not compared.
    #[must_use]
    pub fn check_immutable(
        &self,
        server: Option<usize>,
        recorded: &[ImmutableKey],
        schemas: &[ClassSchema],
    ) -> Vec<Diagnostic> {
        let current = match server {
            Some(index) => self.immutable_server_keys(index, schemas),
            None => self.immutable_keys(),
        };
        let mut out = Vec::new();
        for old in recorded {
            let new = current
                .iter()
                .find(|k| k.key == old.key)
                .map_or(&Value::Null, |k| &k.value);
            if old.value == *new || (old.key == "rank" && new.is_null()) {
                continue;
            }
            let path = match server {
                Some(index) => format!("servers[{index}].{}", old.key),
                None => old.key.clone(),
            };
            let d = Diagnostic::error(
                Code::ImmutableChanged,
                format!(
                    "{path} was {} when the storage was formatted and is {} now",
                    words(&old.value),
                    words(new)
                ),
            )
            .hint(format!(
                "set {} back, or format with --reformat, which destroys the data",
                old.key
            ));
            out.push(self.origin.at(d, &path));
        }
        out
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::Array(items) if items.is_empty() => "not set".to_owned(),
        value => value.to_string(),
    }
}
