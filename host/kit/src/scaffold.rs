//! The source of a first plugin: one that works, passes the suite, and waits for its hardware.

use daos_plugin_api::control::ClassKind;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

mod interface {
    include!(concat!(env!("OUT_DIR"), "/interface.rs"));
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../templates/", $path))
    };
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the plugin: `bdev-acme`.
    name: String,
    kind: ClassKind,
    is_c: bool,
    directory: PathBuf,
    /// Where the interface crate is; `None` = a copy is written beside the plugin.
    api: Option<PathBuf>,
}

/// Why nothing was written, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// The name is none.
    #[error(
        "{0:?} is no name for a plugin; use bdev-, scm- or fabric- and the class: bdev-acme, of [a-z0-9-], at most 40 characters"
    )]
    Name(String),
    /// The class belongs to a plugin of this project.
    #[error("{0:?} is the name of a plugin that daos_server brings; choose another one")]
    Taken(String),
    /// Something is there.
    #[error("{} exists; choose another directory, or remove it", .0.display())]
    Exists(PathBuf),
    /// The interface crate is not where it was said to be.
    #[error("{} holds no crate daos-plugin-api; give the directory with its Cargo.toml", .0.display())]
    NoInterface(PathBuf),
    /// The system refuses.
    #[error("cannot write {}: {cause}", path.display())]
    System {
        /// What was written.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

/// What was written.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Written {
    /// Name of the plugin.
    pub name: String,
    /// Where it lies.
    pub directory: PathBuf,
    /// Files, relative to it; of the interface crate only its directory.
    pub files: Vec<String>,
    /// Commands that build and check it, one after the other.
    pub next: Vec<String>,
}

/// Names that would get in the way of our own.
const TAKEN: &[&str] = &[
    "bdev-malloc",
    "bdev-file",
    "bdev-kdev",
    "bdev-nvme",
    "bdev-nvme-spdk",
    "scm-ram",
    "scm-dcpm",
    "fabric-tcp",
    "fabric-ofi",
];

impl Plan {
    /// Checks a name and makes a plan. `directory` is by default the plugin's name here; `api` the
    /// directory of the interface crate.
    ///
    /// # Errors
    /// The name is none, or taken; there is no interface crate in `api`.
    pub fn new(
        name: &str,
        is_c: bool,
        directory: Option<&Path>,
        api: Option<&Path>,
    ) -> Result<Self, NotWritten> {
        let wrong = || NotWritten::Name(name.to_owned());
        let (kind, class) = name.split_once('-').ok_or_else(wrong)?;
        let kind = match kind {
            "bdev" => ClassKind::Bdev,
            "scm" => ClassKind::Scm,
            "fabric" => ClassKind::Fabric,
            _ => return Err(wrong()),
        };
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let starts = class.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if !starts || name.len() > 40 || class.ends_with('-') || !class.bytes().all(plain) {
            return Err(wrong());
        }
        if TAKEN.contains(&name) {
            return Err(NotWritten::Taken(name.to_owned()));
        }
        let api = match api {
            None => None,
            Some(path) => {
                let none = || NotWritten::NoInterface(path.to_owned());
                let path = path.canonicalize().map_err(|_| none())?;
                let manifest = fs::read_to_string(path.join("Cargo.toml")).map_err(|_| none())?;
                if !manifest.contains("name = \"daos-plugin-api\"") {
                    return Err(none());
                }
                Some(path)
            }
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
            is_c,
            directory: directory.map_or_else(|| PathBuf::from(name), Path::to_owned),
            api,
        })
    }

    fn class(&self) -> &str {
        self.name.split_once('-').map_or("", |(_, class)| class)
    }

    fn object(&self) -> String {
        format!("lib{}.so", self.name.replace('-', "_"))
    }

    /// Where the built plugin is, relative to its directory.
    pub fn built(&self) -> String {
        match self.is_c {
            true => self.object(),
            false => format!("target/release/{}", self.object()),
        }
    }

    fn fill(&self, template: &str) -> String {
        let api = match &self.api {
            Some(path) => path.display().to_string(),
            None => "daos-plugin-api".to_owned(),
        };
        let table: String = self
            .sources()
            .iter()
            .map(|(path, what, _)| format!("| `{path}` | {what} |\n"))
            .collect();
        let device = match self.kind {
            ClassKind::Scm => format!(" --device /dev/shm/{}", self.name),
            ClassKind::Bdev | ClassKind::Fabric => String::new(),
        };
        let (build, interface) = match self.is_c {
            true => ("make".to_owned(), "`daos_plugin.h`"),
            false => (
                "cargo build --release".to_owned(),
                "`daos-plugin-api/src/abi`",
            ),
        };
        // Parts first: they hold names, too.
        template
            .replace("@COMMON@", template!("c/common.h.in"))
            .replace("@NUMBER@", template!("c/number.h.in"))
            .replace("@TEXT@", template!("c/text.h.in"))
            .replace("@TABLE@\n", &table)
            .replace("@BUILD@", &build)
            .replace("@INTERFACE@", interface)
            .replace("@DEVICE@", &device)
            .replace(
                "@FILE@",
                match template.starts_with("# Builds") {
                    true => self.object(),
                    false => format!("./{}", self.built()),
                }
                .as_str(),
            )
            .replace("@NAME@", &self.name)
            .replace("@CLASS@", self.class())
            .replace("@KIND@", &self.kind.to_string())
            .replace("@API@", &api)
    }

    /// Files with what they hold, and their templates.
    fn sources(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        if self.is_c {
            let (what, source) = match self.kind {
                ClassKind::Bdev => (
                    "the plugin: manifest, control face, devices and queues",
                    template!("c/bdev.c"),
                ),
                ClassKind::Scm => (
                    "the plugin: manifest, control face, memory and regions",
                    template!("c/scm.c"),
                ),
                ClassKind::Fabric => (
                    "the plugin: manifest, control face, domains and endpoints",
                    template!("c/fabric.c"),
                ),
            };
            return vec![
                ("plugin.c", what, source),
                ("daos_plugin.h", "the interface, documented", ""),
                (
                    "Makefile",
                    "builds it with the system's compiler",
                    template!("c/Makefile.in"),
                ),
            ];
        }
        let cargo = ("Cargo.toml", "the crate", template!("Cargo.toml.in"));
        let who = "who the plugin is; read without running it";
        let lib = "the plugin as a whole, its control face";
        match self.kind {
            ClassKind::Bdev => vec![
                cargo,
                ("manifest.json", who, template!("rust-bdev/manifest.json")),
                ("src/lib.rs", lib, template!("rust-bdev/lib.rs")),
                (
                    "src/device.rs",
                    "the data face: devices and queues",
                    template!("rust-bdev/device.rs"),
                ),
            ],
            ClassKind::Scm => vec![
                cargo,
                ("manifest.json", who, template!("rust-scm/manifest.json")),
                ("src/lib.rs", lib, template!("rust-scm/lib.rs")),
                (
                    "src/memory.rs",
                    "the data face: memory and regions",
                    template!("rust-scm/memory.rs"),
                ),
            ],
            ClassKind::Fabric => vec![
                cargo,
                ("manifest.json", who, template!("rust-fabric/manifest.json")),
                ("src/lib.rs", lib, template!("rust-fabric/lib.rs")),
                (
                    "src/endpoint.rs",
                    "the data face: endpoints",
                    template!("rust-fabric/endpoint.rs"),
                ),
                (
                    "src/network.rs",
                    "what endpoints share: your network",
                    template!("rust-fabric/network.rs"),
                ),
            ],
        }
    }

    /// Writes everything into a new directory.
    ///
    /// # Errors
    /// The directory exists, or the system refuses; what was written until then is removed again.
    pub fn write(&self) -> Result<Written, NotWritten> {
        let exists = |e: &io::Error| e.kind() == io::ErrorKind::AlreadyExists;
        if let Some(parent) = self.directory.parent() {
            fs::create_dir_all(parent).map_err(|e| system(parent, e))?;
        }
        // Makes it or fails: nothing of somebody else's is ever written over.
        fs::create_dir(&self.directory).map_err(|e| match exists(&e) {
            true => NotWritten::Exists(self.directory.clone()),
            false => system(&self.directory, e),
        })?;
        self.write_all().inspect_err(|_| {
            // It is ours: made a moment ago.
            let _ = fs::remove_dir_all(&self.directory);
        })
    }

    fn write_all(&self) -> Result<Written, NotWritten> {
        let mut files = Vec::new();
        for (path, _, template) in self.sources() {
            let text = match path {
                "daos_plugin.h" => interface_file("include/daos_plugin.h").to_owned(),
                _ => self.fill(template),
            };
            self.put(path, &text)?;
            files.push(path.to_owned());
        }
        self.put("README.md", &self.fill(template!("README.md.in")))?;
        files.push("README.md".to_owned());
        if !self.is_c && self.api.is_none() {
            for (path, text) in interface::FILES {
                self.put(&format!("daos-plugin-api/{path}"), text)?;
            }
            self.put("daos-plugin-api/Cargo.toml", interface::MANIFEST)?;
            files.push("daos-plugin-api/".to_owned());
        }
        let readme = self.fill("cd @DIR@\n@BUILD@\ndaos_server plugin check @FILE@@DEVICE@");
        let next = readme.replace("@DIR@", &self.directory.display().to_string());
        Ok(Written {
            name: self.name.clone(),
            directory: self.directory.clone(),
            files,
            next: next.lines().map(str::to_owned).collect(),
        })
    }

    fn put(&self, path: &str, text: &str) -> Result<(), NotWritten> {
        let path = self.directory.join(path);
        let parent = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(parent).map_err(|e| system(parent, e))?;
        fs::write(&path, text).map_err(|e| system(&path, e))
    }
}

fn interface_file(name: &str) -> &'static str {
    let found = interface::FILES.iter().find(|(path, _)| *path == name);
    found.map_or("", |(_, text)| text)
}

fn system(path: &Path, cause: io::Error) -> NotWritten {
    NotWritten::System {
        path: path.to_owned(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str) -> Result<Plan, NotWritten> {
        Plan::new(name, false, None, None)
    }

    #[test]
    fn names_are_checked() {
        for name in ["bdev-acme", "scm-a", "fabric-acme-2", "bdev-a1"] {
            plan(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let long = format!("bdev-{}", "a".repeat(40));
        for name in [
            "",
            "acme",
            "bdev",
            "bdev-",
            "bdev--a",
            "bdev-a-",
            "disk-acme",
            "bdev-Acme",
            "bdev-1a",
            "bdev-a/b",
            "bdev-a b",
            "bdev-ä",
            "bdev-../x",
            &long,
        ] {
            let error = plan(name).expect_err(name);
            assert!(error.to_string().contains("bdev-acme"), "{error}");
        }
        let error = plan("bdev-malloc").expect_err("ours");
        assert!(matches!(error, NotWritten::Taken(_)));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for name in ["bdev-acme", "scm-acme", "fabric-acme"] {
            for is_c in [false, true] {
                let plan = Plan::new(name, is_c, None, None).expect("a plan");
                let mut texts: Vec<String> =
                    plan.sources().iter().map(|s| plan.fill(s.2)).collect();
                texts.push(plan.fill(template!("README.md.in")));
                for text in texts {
                    let left = text.lines().find(|line| {
                        line.split('@').skip(1).step_by(2).any(|word| {
                            !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase())
                        })
                    });
                    assert_eq!(left, None, "{name}");
                }
            }
        }
    }
}
