//! What is tested.

use super::other::Processes;
use crate::control::{ClassKind, ClassRequest, FabricOpenRequest};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A class of a plugin with a config that works on this machine.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which face.
    pub kind: ClassKind,
    /// Class name, for a fabric the provider name.
    pub class: String,
    /// Class config as in the config file. Storage it names is written to. For a fabric:
    /// `interface`, `port` and the class's own keys.
    pub config: Map<String, Value>,
    /// Settings handed to the plugin.
    pub settings: Map<String, Value>,
    /// Configs that the plugin must refuse in `validate` or `devices`, beside those that the
    /// suite makes up by giving each key a value of another type.
    pub nonsense: Vec<Map<String, Value>>,
    /// Let `format` overwrite content that is not ours.
    pub overwrite_foreign: bool,
    /// Undo the format of SCM (`unmount`) when the run ends.
    pub unmount: bool,
    /// The plugin is linked into this binary.
    pub built_in: bool,
    /// Seed of all random data and offsets.
    pub seed: u64,
    /// Only cases whose name contains this text.
    pub filter: Option<String>,
    /// Only the cases with these short names, beside setup and the giving back of the storage.
    pub only: Option<Vec<String>>,
    /// A way to other processes that have loaded the plugin; without it cases that need one are skipped.
    pub processes: Option<Arc<dyn Processes>>,
}

impl Target {
    /// A target with defaults; `config` is a JSON object.
    ///
    /// # Panics
    /// If `config` is no object.
    pub fn new(kind: ClassKind, class: &str, config: Value) -> Self {
        let Value::Object(config) = config else {
            panic!("the class config is a JSON object, not {config}")
        };
        Self {
            kind,
            class: class.to_owned(),
            config,
            settings: Map::new(),
            nonsense: Vec::new(),
            overwrite_foreign: false,
            unmount: true,
            built_in: true,
            seed: 0xda05,
            filter: None,
            only: None,
            processes: None,
        }
    }

    /// For a plugin from a shared object.
    #[must_use]
    pub fn loaded(mut self) -> Self {
        self.built_in = false;
        self
    }

    /// Adds a config that must be refused.
    ///
    /// # Panics
    /// If `config` is no object.
    #[must_use]
    pub fn nonsense(mut self, config: Value) -> Self {
        let Value::Object(config) = config else {
            panic!("the class config is a JSON object, not {config}")
        };
        self.nonsense.push(config);
        self
    }

    /// Only cases whose name contains `text`.
    #[must_use]
    pub fn filter(mut self, text: &str) -> Self {
        self.filter = Some(text.to_owned());
        self
    }

    /// Only the cases with these short names.
    #[must_use]
    pub fn only(mut self, ids: impl IntoIterator<Item = String>) -> Self {
        self.only = Some(ids.into_iter().collect());
        self
    }

    pub(super) fn wants(&self, id: &str, name: &str) -> bool {
        let by_name = self
            .filter
            .as_ref()
            .is_none_or(|text| name.contains(text.as_str()));
        let by_id = self
            .only
            .as_ref()
            .is_none_or(|ids| ids.iter().any(|wanted| wanted == id));
        by_name && by_id
    }

    pub(super) fn class_request(&self, config: &Map<String, Value>) -> ClassRequest {
        ClassRequest {
            class: self.class.clone(),
            config: config.clone(),
        }
    }

    pub(super) fn fabric_request(&self) -> FabricOpenRequest {
        let text = |key| {
            let value = self.config.get(key).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let port = self.config.get("port").and_then(Value::as_u64);
        FabricOpenRequest {
            provider: self.class.clone(),
            interface: text("interface"),
            port: port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0),
            answers: false,
            config: self.config.clone(),
        }
    }
}
