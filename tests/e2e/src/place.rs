//! Where an engine is, for peers of a test's own.

use crate::site::Site;
use daos_wire::EngineUri;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use uuid::Uuid;

/// Where an engine is, and what a request to it must name.
#[derive(Clone, Debug)]
pub struct Place {
    /// The engine.
    pub uri: EngineUri,
    /// Where the plugin of its provider is, unless built in.
    pub plugins_dir: Option<PathBuf>,
    /// Network interface.
    pub iface: String,
    /// An existing pool.
    pub pool: Uuid,
    /// An existing container of it.
    pub container: Uuid,
}

impl Place {
    /// As words of a command line.
    pub fn to_words(&self) -> Vec<String> {
        let dir = self.plugins_dir.as_ref();
        vec![
            self.uri.to_string(),
            dir.map_or_else(|| "-".to_owned(), |dir| dir.display().to_string()),
            self.iface.clone(),
            self.pool.to_string(),
            self.container.to_string(),
        ]
    }

    /// The other way round.
    ///
    /// # Panics
    /// They are not what [`Place::to_words`] gave.
    pub fn from_words(words: &mut impl Iterator<Item = String>) -> Self {
        let mut word = || words.next().expect("five words of a place");
        Self {
            uri: word().parse().expect("an engine's URI"),
            plugins_dir: Some(word()).filter(|dir| dir != "-").map(PathBuf::from),
            iface: word(),
            pool: word().parse().expect("a UUID"),
            container: word().parse().expect("a UUID"),
        }
    }
}

impl Site {
    /// Lets the server tell where its engines are, for [`Site::place`].
    pub fn tell_addresses(&mut self) {
        let path = self.path("attach");
        self.add_config(&format!("attach: '{}'\n", path.display()));
    }

    /// Where the first engine is, with a pool and a container for peers of the test's own. Needs
    /// [`Site::tell_addresses`] before the start.
    ///
    /// # Panics
    /// The engine does not serve.
    #[track_caller]
    pub fn place(&self) -> Place {
        self.ensure_pool();
        // It may be there already.
        self.daos(&["container", "create", "peers"]);
        let found = self.daos(&["--json", "container", "list"]).expect(0).json();
        let found = found["response"]["containers"].as_array().cloned();
        let container = found
            .into_iter()
            .flatten()
            .find(|row| row["label"] == "peers")
            .expect("the container was made");
        let pool = self.shell(&["--json", "pool", "query", "tank"]).expect(0);
        let uuid = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Place {
            uri: self.uri(0).expect("the engine serves"),
            plugins_dir: self.is_ofi().then(|| self.path("plugins")),
            iface: self.iface().to_owned(),
            pool: uuid(&pool.json()["response"]["uuid"]).expect("a UUID"),
            container: uuid(&container["uuid"]).expect("a UUID"),
        }
    }

    /// Address of the engine of a rank, if it serves.
    pub fn uri(&self, rank: u32) -> Option<EngineUri> {
        let text = fs::read_to_string(self.path("attach")).ok()?;
        let mark = format!("{rank} ");
        text.lines()
            .find_map(|l| l.strip_prefix(&mark))?
            .parse()
            .ok()
    }
}
