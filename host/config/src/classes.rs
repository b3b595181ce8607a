//! Class names and class-specific keys, checked against what plugins declare.

use std::collections::{BTreeMap, BTreeSet};

use daos_plugin_api::control::{self, Manifest, provider_class};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diagnostic::{self, Code, Diagnostic};
use crate::keys::{self, Scope};
use crate::model::{Config, ServerConfig};
use crate::schema;

/// What a class is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassKind {
    /// Storage-class memory, chosen by `scm_class`.
    Scm,
    /// Block devices, chosen by `bdev_class`.
    Bdev,
    /// Fabric, chosen by `provider`.
    Fabric,
}

impl ClassKind {
    /// The key that chooses a class of this kind.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Scm => "scm_class",
            Self::Bdev => "bdev_class",
            Self::Fabric => "provider",
        }
    }

    /// The standard keys that a class of this kind may read.
    #[must_use]
    pub fn standard_keys(self) -> &'static [&'static str] {
        match self {
            Self::Scm => &["scm_mount", "scm_list", "scm_size"],
            Self::Bdev => &["bdev_list", "bdev_number", "bdev_size"],
            Self::Fabric => &["provider", "fabric_iface", "fabric_iface_port"],
        }
    }
}

/// A class, the plugin that declares it, and the keys it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassSchema {
    /// What the class is for.
    pub kind: ClassKind,
    /// Its name, as written in the configuration.
    pub class: String,
    /// The plugin that declares it.
    pub plugin: String,
    /// JSON Schema of an object with the keys of a server entry that the class reads:
    /// standard ones by their names, and its own. A property with `"x-mutable": true` may be
    /// changed after format, and `"x-default": "usable"` at `bdev_list` is what
    /// [`Config::takes_usable_bdevs`] looks for. `null` when the plugin declares none: nothing is checked then, and
    /// the class has no keys of its own. Checked are `type`, `enum`, `const`, `minimum`,
    /// `maximum`, their exclusive forms, `minLength`, `maxLength`, `pattern`, `items`,
    /// `minItems`, `maxItems`, `uniqueItems`, `properties`, `required` and
    /// `additionalProperties`; other keywords are reported as a warning.
    pub schema: Value,
    /// Runtimes that the plugin brings and that a process can have only once.
    #[serde(default)]
    pub exclusive: Vec<String>,
}

impl From<control::ClassKind> for ClassKind {
    fn from(kind: control::ClassKind) -> Self {
        match kind {
            control::ClassKind::Scm => Self::Scm,
            control::ClassKind::Bdev => Self::Bdev,
            control::ClassKind::Fabric => Self::Fabric,
        }
    }
}

impl ClassSchema {
    /// The classes that a plugin's manifest declares.
    pub fn all_of(manifest: &Manifest) -> impl Iterator<Item = Self> {
        manifest.classes.iter().map(|class| Self {
            kind: class.kind.into(),
            class: class.name.clone(),
            plugin: manifest.name.clone(),
            schema: class.schema.clone(),
            exclusive: manifest.exclusive.clone(),
        })
    }
}

impl ServerConfig {
    /// Name of the class of this kind.
    ///
    /// For SCM and block devices it is the one in the key, for fabrics see [`provider_class`].
    /// `None` when the provider is to be detected.
    #[must_use]
    pub fn class_name(&self, kind: ClassKind) -> Option<&str> {
        match kind {
            ClassKind::Scm => Some(&self.scm_class),
            ClassKind::Bdev => Some(&self.bdev_class),
            ClassKind::Fabric => provider_class(self.provider.as_deref()?),
        }
    }

    /// What the key says.
    fn named(&self, kind: ClassKind) -> &str {
        match kind {
            ClassKind::Fabric => self.provider.as_deref().unwrap_or_default(),
            _ => self.class_name(kind).unwrap_or_default(),
        }
    }

    /// The keys of this server that a class reads, as its schema and its plugin see them:
    /// standard keys of the kind that have a value, and the class's own.
    #[must_use]
    pub fn class_section(&self, schema: &ClassSchema) -> serde_json::Map<String, Value> {
        let mut section = serde_json::Map::new();
        for key in schema.kind.standard_keys() {
            if let Some(value) = self.standard(key) {
                section.insert((*key).to_owned(), value);
            }
        }
        for (key, value) in &self.extra {
            if schema::property(&schema.schema, key).is_some() {
                section.insert(key.clone(), value.clone());
            }
        }
        section
    }

    /// The value of a standard storage or fabric key, if it has one.
    pub(crate) fn standard(&self, key: &str) -> Option<Value> {
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| Value::from(list.clone()));
        match key {
            "scm_mount" => Some(self.scm_mount.to_string_lossy().into_owned().into()),
            "scm_list" => list(&self.scm_list),
            "scm_size" => self.scm_size.map(Value::from),
            "bdev_list" => list(&self.bdev_list),
            "bdev_number" => self.bdev_number.map(Value::from),
            "bdev_size" => self.bdev_size.map(Value::from),
            "provider" => self.provider.clone().map(Value::from),
            "fabric_iface" => self.fabric_iface.clone().map(Value::from),
            "fabric_iface_port" => self.fabric_iface_port.map(Value::from),
            _ => None,
        }
    }
}

/// An engine is one process, so that not two of its plugins can bring a runtime of which a process has one.
fn both_exclusive(chosen: &[&ClassSchema], one: &ClassSchema) -> Option<Diagnostic> {
    let others = chosen.iter().filter(|other| other.plugin != one.plugin);
    let mut shared = others.flat_map(|other| {
        let both = other
            .exclusive
            .iter()
            .filter(|runtime| one.exclusive.contains(runtime));
        both.map(move |runtime| (other, runtime))
    });
    let (other, runtime) = shared.next()?;
    let what = format!(
        "the plugins {} ({} \"{}\") and {} ({} \"{}\") both bring the runtime {runtime}, which an engine can have only once",
        other.plugin,
        other.kind.key(),
        other.class,
        one.plugin,
        one.kind.key(),
        one.class,
    );
    Some(
        Diagnostic::error(Code::ExclusiveRuntime, what)
            .hint("choose another class for one of them, or split them between two servers"),
    )
}

impl Config {
    /// Checks classes and class-specific keys of all servers against what plugins declare,
    /// and with that every key that is not of the standard list.
    ///
    /// Returns errors and warnings in the order of the file. Without an error, every key of
    /// every server is known and valid. Plugins that [`Config::plugins`] does not allow do not
    /// count.
    #[must_use]
    pub fn check_classes(&self, schemas: &[ClassSchema]) -> Vec<Diagnostic> {
        self.check_classes_with(schemas, &|_| None)
    }

    /// The same for who knows more about plugins than their classes: `missing` says of a provider that no plugin
    /// declares what is wrong with its plugin, and what mends that.
    #[must_use]
    pub fn check_classes_with(
        &self,
        schemas: &[ClassSchema],
        missing: &dyn Fn(&str) -> Option<(String, String)>,
    ) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        self.check_plugin_names(schemas, &mut out);
        for index in 0..self.servers.len() {
            self.check_server(index, schemas, missing, &mut out);
        }
        diagnostic::sort(&mut out);
        out
    }

    /// The declaration that a server's class resolves to, and with that its plugin. `None`
    /// when no allowed plugin, or more than one, declares it, or when the fabric is to be
    /// detected.
    #[must_use]
    pub fn class_of<'s>(
        &self,
        server: usize,
        kind: ClassKind,
        schemas: &'s [ClassSchema],
    ) -> Option<&'s ClassSchema> {
        match self
            .declared(self.servers.get(server)?, kind, schemas)
            .as_slice()
        {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Whether the block devices of a server are chosen for it: its class is written down, its devices are not, and the
    /// class says that it then takes all that are usable (`"x-default": "usable"` at `bdev_list` in its schema).
    ///
    /// A class that is only the default takes nothing: such a server has no block devices.
    #[must_use]
    pub fn takes_usable_bdevs(&self, server: usize, schemas: &[ClassSchema]) -> bool {
        let Some(entry) = self.servers.get(server) else {
            return false;
        };
        entry.bdev_list.is_empty()
            && entry.bdev_number.is_none()
            && self.origin.given(&format!("servers[{server}].bdev_class"))
            && self
                .class_of(server, ClassKind::Bdev, schemas)
                .and_then(|class| schema::property(&class.schema, "bdev_list"))
                .is_some_and(|list| list.get("x-default").is_some_and(|d| d == "usable"))
    }

    /// Whether the SCM of a server is chosen for it: its device is not written down, and the class says that it
    /// then takes one that is usable (`"x-default": "usable"` at `scm_list` in its schema).
    #[must_use]
    pub fn takes_usable_scm(&self, server: usize, schemas: &[ClassSchema]) -> bool {
        let Some(entry) = self.servers.get(server) else {
            return false;
        };
        entry.scm_list.is_empty()
            && self
                .class_of(server, ClassKind::Scm, schemas)
                .and_then(|class| schema::property(&class.schema, "scm_list"))
                .is_some_and(|list| list.get("x-default").is_some_and(|d| d == "usable"))
    }

    /// The allowed declarations of a server's class.
    fn declared<'s>(
        &self,
        server: &ServerConfig,
        kind: ClassKind,
        schemas: &'s [ClassSchema],
    ) -> Vec<&'s ClassSchema> {
        let Some(class) = server.class_name(kind) else {
            return Vec::new();
        };
        schemas
            .iter()
            .filter(|s| s.kind == kind && s.class == class)
            .filter(|s| self.allows_plugin(&s.plugin))
            .collect()
    }

    fn check_plugin_names(&self, schemas: &[ClassSchema], out: &mut Vec<Diagnostic>) {
        for name in self.plugins.iter().flat_map(BTreeMap::keys) {
            let known = || schemas.iter().map(|s| s.plugin.as_str());
            if !known().any(|plugin| plugin == name) {
                let d = Diagnostic::warning(
                    Code::UnknownPlugin,
                    format!("plugins names \"{name}\", but no plugin of that name was loaded"),
                )
                .hint(keys::suggestion(name, known()));
                out.push(self.origin.at_key(d, &format!("plugins.{name}")));
            }
        }
    }

    fn check_server(
        &self,
        index: usize,
        schemas: &[ClassSchema],
        missing: &dyn Fn(&str) -> Option<(String, String)>,
        out: &mut Vec<Diagnostic>,
    ) {
        let server = &self.servers[index];
        let mut owned = BTreeSet::new();
        let mut all_known = true;
        let mut chosen: Vec<&ClassSchema> = Vec::new();
        for kind in [ClassKind::Scm, ClassKind::Bdev, ClassKind::Fabric] {
            let Some(class) = server.class_name(kind) else {
                continue;
            };
            let named = server.named(kind);
            match self.declared(server, kind, schemas).as_slice() {
                [one] => {
                    owned.extend(schema::properties(&one.schema));
                    self.check_section(index, one, out);
                    if let Some(d) = both_exclusive(&chosen, one) {
                        out.push(self.at_class(d, index, kind));
                    }
                    chosen.push(one);
                }
                [one, two, ..] => {
                    all_known = false;
                    let d = Diagnostic::error(
                        Code::AmbiguousClass,
                        format!(
                            "{} \"{named}\" is declared by the plugins {} and {}",
                            kind.key(),
                            one.plugin,
                            two.plugin
                        ),
                    )
                    .hint("name the one to use under plugins:, or remove the other file");
                    out.push(self.at_class(d, index, kind));
                }
                [] => {
                    all_known = false;
                    let d = self.unknown_class(kind, class, named, schemas, missing);
                    out.push(self.at_class(d, index, kind));
                }
            }
        }
        // With a class unknown, nobody can say whose key it is.
        if all_known {
            for key in server.extra.keys().filter(|k| !owned.contains(k.as_str())) {
                out.push(self.unknown_key(index, key, &owned, schemas));
            }
        }
    }

    fn at_class(&self, diagnostic: Diagnostic, index: usize, kind: ClassKind) -> Diagnostic {
        let own = format!("servers[{index}].{}", kind.key());
        let inherited = kind == ClassKind::Fabric && !self.origin.given(&own);
        let path = if inherited && self.origin.given("provider") {
            "provider".to_owned()
        } else {
            own
        };
        self.origin.at(diagnostic, &path)
    }

    fn unknown_class(
        &self,
        kind: ClassKind,
        class: &str,
        named: &str,
        schemas: &[ClassSchema],
        missing: &dyn Fn(&str) -> Option<(String, String)>,
    ) -> Diagnostic {
        let of_kind = || schemas.iter().filter(move |s| s.kind == kind);
        let what = match kind {
            ClassKind::Scm => "scm_class",
            ClassKind::Bdev => "bdev_class",
            ClassKind::Fabric => "fabric provider",
        };
        if let Some(refused) = of_kind().find(|s| s.class == class) {
            return Diagnostic::error(
                Code::UnknownClass,
                format!("{what} \"{named}\" needs a plugin that plugins: does not allow"),
            )
            .hint(format!("add \"{}\" to plugins:", refused.plugin));
        }
        if kind == ClassKind::Fabric
            && let Some((cause, remedy)) = missing(named)
        {
            let message = format!("{what} \"{named}\": {cause}");
            return Diagnostic::error(Code::UnknownClass, message).hint(remedy);
        }
        let mut known: Vec<&str> = of_kind()
            .filter(|s| self.allows_plugin(&s.plugin))
            .map(|s| s.class.as_str())
            .collect();
        known.sort_unstable();
        known.dedup();
        let list = if known.is_empty() {
            "no plugin declares one".to_owned()
        } else {
            format!("known are: {}", known.join(", "))
        };
        let message = format!("{what} \"{named}\" is declared by no plugin; {list}");
        let d = Diagnostic::error(Code::UnknownClass, message);
        let near = keys::nearest(named, known.iter().copied());
        match (near, kind) {
            (Some(near), _) => d.hint(format!("did you mean \"{near}\"?")),
            (None, ClassKind::Fabric) if known.contains(&"ofi") => d.hint(format!(
                "libfabric providers are written with their class: ofi+{named}"
            )),
            _ => d.hint("put the plugin that declares it into plugins_dir (`plugin list` shows why one was refused)"),
        }
    }

    fn check_section(&self, index: usize, class: &ClassSchema, out: &mut Vec<Diagnostic>) {
        let server = &self.servers[index];
        let name = format!("{} {}", class.kind.key(), class.class);
        let section = Value::Object(server.class_section(class));
        let mut violations = Vec::new();
        schema::check(&class.schema, &section, &name, &mut violations);
        for v in violations {
            // The server entry is one object to the user; other keys in it are not this class's.
            if v.on_key && v.path.matches(['.', '[']).count() == 1 {
                continue;
            }
            if v.in_schema {
                let message = format!("plugin {}: {}", class.plugin, v.message);
                let d = Diagnostic::warning(Code::PluginSchema, message)
                    .hint("report it to the vendor; the plugin itself still checks the value");
                out.push(self.at_class(d, index, class.kind));
                continue;
            }
            let mut d = Diagnostic::error(Code::ClassKey, v.message);
            d.hint = v.hint;
            out.push(if v.path.is_empty() {
                self.at_class(d, index, class.kind)
            } else if v.on_key {
                self.origin
                    .at_key(d, &format!("servers[{index}]{}", v.path))
            } else {
                self.origin.at(d, &format!("servers[{index}]{}", v.path))
            });
        }
        for key in [
            "scm_list",
            "scm_size",
            "bdev_list",
            "bdev_number",
            "bdev_size",
        ] {
            // A class without a schema has not said what it uses.
            if !class.schema.is_null()
                && class.kind.standard_keys().contains(&key)
                && server.standard(key).is_some()
                && schema::property(&class.schema, key).is_none()
            {
                let d =
                    Diagnostic::warning(Code::UnusedKey, format!("{key} is not used by {name}"))
                        .hint("remove it, or choose another class");
                let path = format!("servers[{index}].{key}");
                out.push(self.origin.at_key(d, &path));
            }
        }
    }

    fn unknown_key(
        &self,
        index: usize,
        key: &str,
        owned: &BTreeSet<&str>,
        schemas: &[ClassSchema],
    ) -> Diagnostic {
        let standard = keys::of(Scope::Server).map(|k| k.name);
        let near = keys::nearest(key, standard.chain(owned.iter().copied()));
        let other = schemas
            .iter()
            .find(|s| schema::property(&s.schema, key).is_some());
        let hint = if let Some((_, what)) = keys::not_here(key) {
            format!("a key of DAOS without a counterpart here: {what}")
        } else if let Some(other) = other {
            format!(
                "it is a key of {} {} (plugin {})",
                other.kind.key(),
                other.class,
                other.plugin
            )
        } else if keys::find(Scope::Top, key).is_some() {
            format!("\"{key}\" belongs to the top level of the file")
        } else if keys::find(Scope::Transport, key).is_some() {
            format!("\"{key}\" belongs under transport_config:")
        } else if let Some(near) = near {
            format!("did you mean \"{near}\"?")
        } else {
            let all = keys::of(Scope::Server).map(|k| k.name);
            keys::suggestion(key, all.chain(owned.iter().copied()))
        };
        let message = format!("unknown key \"{key}\" in servers[{index}]");
        let d = Diagnostic::error(Code::UnknownKey, message).hint(hint);
        self.origin.at_key(d, &format!("servers[{index}].{key}"))
    }
}
