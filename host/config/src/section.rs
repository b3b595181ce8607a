//! Reads typed values out of one group of keys, noting places and collecting every error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::diagnostic::{Code, Diagnostic};
use crate::keys::{self, KeySpec, Kind, Scope};
use crate::source::{Origin, Place, Span};
use crate::tree::{Node, Value};

/// Longest text of one value, in bytes; the longest real ones are paths.
const MAX_TEXT: usize = 4096;
/// Longest key, in bytes.
const MAX_KEY: usize = 128;
/// Most items of one list.
pub(crate) const MAX_ITEMS: usize = 1024;

/// Keys of servers that no plugin can own: they change what the other keys mean.
const LOST: [&str; 2] = ["bdev_roles", "bdev_busid_range"];

/// What reading produces beside the values.
pub(crate) struct Reader {
    pub(crate) origin: Origin,
    pub(crate) out: Vec<Diagnostic>,
}

impl Reader {
    /// Reports at a place in the text.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic, path: &str, span: Span) {
        let diagnostic = diagnostic.key(path).at(&self.origin.source, span);
        self.out.push(diagnostic);
    }

    pub(crate) fn note(&mut self, path: String, key: Option<Span>, value: Span) {
        self.origin.set(path, Place::File { key, value });
    }

    /// One line of text out of a scalar. Unquoted numbers and booleans are taken as written.
    pub(crate) fn scalar(&mut self, path: &str, node: &Node) -> Option<String> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                match self.origin.source.raw(node.at) {
                    Some(raw) => raw.trim().to_owned(),
                    None => return self.wrong_type(path, node, "text"),
                }
            }
            Value::Null => String::new(),
            Value::List(_) | Value::Map(_) => return self.wrong_type(path, node, "text"),
        };
        if text.is_empty() {
            self.report(
                Diagnostic::error(Code::BadValue, format!("{path} is empty")),
                path,
                node.at,
            );
            return None;
        }
        if text.len() > MAX_TEXT {
            let message = format!("{path} has {} bytes, at most {MAX_TEXT} fit", text.len());
            self.report(Diagnostic::error(Code::BadValue, message), path, node.at);
            return None;
        }
        if text.chars().any(char::is_control) {
            self.report(
                Diagnostic::error(
                    Code::BadValue,
                    format!("{path} contains a line break or control character"),
                )
                .hint("write it on one line; quote it if it contains special characters"),
                path,
                node.at,
            );
            return None;
        }
        Some(text)
    }

    pub(crate) fn wrong_type<T>(&mut self, path: &str, node: &Node, wanted: &str) -> Option<T> {
        let found = node.value.kind();
        self.report(
            Diagnostic::error(
                Code::WrongType,
                format!("{path} must be {wanted}, but {found} was found"),
            ),
            path,
            node.at,
        );
        None
    }

    fn long_key(&mut self, path: &str, span: Span) {
        let message = format!("a key has more than {MAX_KEY} bytes");
        self.report(Diagnostic::error(Code::UnknownKey, message), path, span);
    }

    /// Cuts a list that has more items than any real one.
    pub(crate) fn bounded<'a, T>(&mut self, path: &str, span: Span, items: &'a [T]) -> &'a [T] {
        if items.len() > MAX_ITEMS {
            let message = format!("{path} has {} items, at most {MAX_ITEMS} fit", items.len());
            self.report(Diagnostic::error(Code::ValueCount, message), path, span);
        }
        &items[..items.len().min(MAX_ITEMS)]
    }

    /// Free content for plugins, with the place of every value in it.
    pub(crate) fn json(&mut self, path: &str, node: &Node) -> Option<serde_json::Value> {
        Some(match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(i) => match (i64::try_from(*i), u64::try_from(*i)) {
                (Ok(small), _) => small.into(),
                (_, Ok(large)) => large.into(),
                _ => return self.wrong_type(path, node, "a 64-bit number"),
            },
            Value::Float(f) => match serde_json::Number::from_f64(*f) {
                Some(number) => number.into(),
                None => return self.wrong_type(path, node, "a finite number"),
            },
            Value::Text(text) => text.clone().into(),
            Value::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.note(path.clone(), None, item.at);
                    list.push(self.json(&path, item)?);
                }
                list.into()
            }
            Value::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, value) in entries {
                    let name = self.scalar(path, key)?;
                    if name.len() > MAX_KEY {
                        self.long_key(path, key.at);
                        return None;
                    }
                    let path = format!("{path}.{name}");
                    self.note(path.clone(), Some(key.at), value.at);
                    let value = self.json(&path, value)?;
                    if map.insert(name.clone(), value).is_some() {
                        self.report(
                            Diagnostic::error(
                                Code::DuplicateKey,
                                format!("key \"{name}\" is given twice"),
                            ),
                            &path,
                            key.at,
                        );
                    }
                }
                map.into()
            }
        })
    }
}

struct Entry<'n> {
    written: &'n str,
    key_at: Span,
    node: &'n Node,
}

/// A group of keys whose names have been checked.
pub(crate) struct Section<'n> {
    scope: Scope,
    pub(crate) path: String,
    pub(crate) at: Span,
    entries: BTreeMap<&'static str, Entry<'n>>,
    /// Keys that only a plugin's schema can explain; collected in server entries alone.
    pub(crate) extra: Vec<(String, Span, &'n Node)>,
}

impl<'n> Section<'n> {
    /// Checks that `node` is a group of known keys, each given once.
    pub(crate) fn open(r: &mut Reader, scope: Scope, path: &str, node: &'n Node) -> Option<Self> {
        let mut section = Self {
            scope,
            path: path.to_owned(),
            at: node.at,
            entries: BTreeMap::new(),
            extra: Vec::new(),
        };
        let pairs = match &node.value {
            Value::Map(pairs) => pairs.as_slice(),
            Value::Null => &[],
            _ => {
                let what = if path.is_empty() { "the file" } else { path };
                return r.wrong_type(what, node, "a group of keys (key: value)");
            }
        };
        for (key, value) in pairs {
            let Value::Text(name) = &key.value else {
                r.report(
                    Diagnostic::error(
                        Code::UnknownKey,
                        format!("a key must be a word, but {} was found", key.value.kind()),
                    ),
                    path,
                    key.at,
                );
                continue;
            };
            if name.len() > MAX_KEY {
                r.long_key(path, key.at);
                continue;
            }
            section.admit(r, name, key.at, value);
        }
        Some(section)
    }

    fn admit(&mut self, r: &mut Reader, name: &'n str, key_at: Span, node: &'n Node) {
        let path = self.child(name);
        let Some(spec) = keys::find(self.scope, name) else {
            return self.unknown(r, name, key_at, node);
        };
        if let Some(first) = self.entries.get(spec.name) {
            let diagnostic = if first.written == name {
                Diagnostic::error(Code::DuplicateKey, format!("key \"{name}\" is given twice"))
                    .hint("keep one of them")
            } else {
                Diagnostic::error(
                    Code::ConflictingKeys,
                    format!(
                        "\"{name}\" and \"{}\" are two names of one key",
                        first.written
                    ),
                )
                .hint(format!("keep \"{}\"", spec.name))
            };
            let diagnostic = diagnostic.related("first given here", Some(first.key_at));
            return r.report(diagnostic, &path, key_at);
        }
        if spec.name != name {
            r.report(
                Diagnostic::warning(
                    Code::OldName,
                    format!(
                        "\"{name}\" is accepted, the key is called \"{}\" here",
                        spec.name
                    ),
                )
                .hint(format!("rename it to \"{}\"", spec.name)),
                &path,
                key_at,
            );
        }
        let entry = Entry {
            written: name,
            key_at,
            node,
        };
        self.entries.insert(spec.name, entry);
    }

    fn unknown(&mut self, r: &mut Reader, name: &'n str, key_at: Span, node: &'n Node) {
        let path = self.child(name);
        let elsewhere = [Scope::Server, Scope::Top, Scope::Transport]
            .into_iter()
            .find(|s| *s != self.scope && keys::find(*s, name).is_some());
        let in_server = matches!(self.scope, Scope::Server | Scope::Tier);
        if let Some((_, hint)) = keys::not_here(name)
            && (!in_server || LOST.contains(&name))
        {
            let message = format!("key \"{name}\" of DAOS has no counterpart here");
            let diagnostic = Diagnostic::error(Code::NotExpressible, message).hint(*hint);
            return r.report(diagnostic, &path, key_at);
        }
        let hint = if in_server {
            if let Some((_, first, _)) = self.extra.iter().find(|(n, _, _)| n == name) {
                let diagnostic =
                    Diagnostic::error(Code::DuplicateKey, format!("key \"{name}\" is given twice"))
                        .hint("keep one of them")
                        .related("first given here", Some(*first));
                return r.report(diagnostic, &path, key_at);
            }
            // Perhaps a plugin's own key: decided when the plugins are known.
            self.extra.push((name.to_owned(), key_at, node));
            return;
        } else {
            match (
                keys::nearest(name, keys::of(self.scope).map(|k| k.name)),
                elsewhere,
            ) {
                (_, Some(Scope::Server)) => {
                    format!("\"{name}\" belongs into an entry of servers:")
                }
                (_, Some(Scope::Transport)) => {
                    format!("\"{name}\" belongs under transport_config:")
                }
                (_, Some(_)) => format!("\"{name}\" belongs to the top level of the file"),
                (Some(near), None) => format!("did you mean \"{near}\"?"),
                (None, None) => keys::list(keys::of(self.scope).map(|k| k.name)),
            }
        };
        let place = match self.path.as_str() {
            "" => String::new(),
            path => format!(" in {path}"),
        };
        let message = format!("unknown key \"{name}\"{place}");
        r.report(
            Diagnostic::error(Code::UnknownKey, message).hint(hint),
            &path,
            key_at,
        );
    }

    /// The path of a key of this group.
    pub(crate) fn child(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Whether the key is in the text, with or without a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.keys().copied()
    }

    /// The place of a key.
    pub(crate) fn key_at(&self, name: &str) -> Span {
        self.entries.get(name).map_or(self.at, |e| e.key_at)
    }

    /// The place of the value of a key.
    pub(crate) fn value_at(&self, name: &str) -> Span {
        self.entries.get(name).map_or(self.at, |e| e.node.at)
    }

    /// The node of a key that has a value.
    pub(crate) fn node(
        &self,
        r: &mut Reader,
        name: &'static str,
    ) -> Option<(&'static KeySpec, String, &'n Node)> {
        let spec = keys::find(self.scope, name)?;
        let entry = self.entries.get(spec.name)?;
        let path = self.child(name);
        if matches!(entry.node.value, Value::Null) {
            r.report(
                Diagnostic::warning(Code::EmptyValue, format!("{path} has no value"))
                    .hint("remove the key, or give it a value; the default is used"),
                &path,
                entry.key_at,
            );
            return None;
        }
        r.note(path.clone(), Some(entry.key_at), entry.node.at);
        Some((spec, path, entry.node))
    }

    pub(crate) fn text(&self, r: &mut Reader, name: &'static str) -> Option<String> {
        let (_, path, node) = self.node(r, name)?;
        r.scalar(&path, node)
    }

    pub(crate) fn bool(&self, r: &mut Reader, name: &'static str) -> Option<bool> {
        let (_, path, node) = self.node(r, name)?;
        match &node.value {
            Value::Bool(b) => Some(*b),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            Value::Text(t) if ["yes", "on"].contains(&t.to_lowercase().as_str()) => Some(true),
            Value::Text(t) if ["no", "off"].contains(&t.to_lowercase().as_str()) => Some(false),
            _ => r.wrong_type(&path, node, "true or false"),
        }
    }

    pub(crate) fn int<T: TryFrom<u64>>(&self, r: &mut Reader, name: &'static str) -> Option<T> {
        let (spec, path, node) = self.node(r, name)?;
        let (min, max) = match spec.kind {
            Kind::Int { min, max } => (min, max),
            _ => (0, u64::MAX),
        };
        let Value::Int(number) = node.value else {
            let quoted = matches!(&node.value, Value::Text(t) if t.parse::<i128>().is_ok());
            let wanted = if quoted {
                "a whole number, without quotes, leading zeros or underscores"
            } else {
                "a whole number"
            };
            return r.wrong_type(&path, node, wanted);
        };
        let value = u64::try_from(number)
            .ok()
            .filter(|n| (min..=max).contains(n))
            .and_then(|n| T::try_from(n).ok());
        if value.is_none() {
            let unlimited = spec.name == "scm_size" && number == 0;
            let diagnostic = Diagnostic::error(
                Code::OutOfRange,
                format!("{path} is {number}, it must be from {min} to {max}"),
            );
            let diagnostic = if unlimited {
                diagnostic.hint(
                    "0 would mean \"unlimited\" to a tmpfs and let it exhaust memory; \
                     give the size in GB",
                )
            } else {
                diagnostic
            };
            r.report(diagnostic, &path, node.at);
        }
        value
    }

    pub(crate) fn word(&self, r: &mut Reader, name: &'static str) -> Option<&'static str> {
        let (spec, path, node) = self.node(r, name)?;
        let Kind::Word(words) = spec.kind else {
            return None;
        };
        let text = r.scalar(&path, node)?;
        let found = words.iter().find(|w| w.eq_ignore_ascii_case(&text));
        if found.is_none() {
            r.report(
                Diagnostic::error(
                    Code::BadValue,
                    format!("\"{text}\" is not a valid value of {path}"),
                )
                .hint(keys::suggestion(&text, words.iter().copied())),
                &path,
                node.at,
            );
        }
        found.copied()
    }

    pub(crate) fn path(&self, r: &mut Reader, name: &'static str) -> Option<PathBuf> {
        let (spec, path, node) = self.node(r, name)?;
        let text = r.scalar(&path, node)?;
        if matches!(spec.kind, Kind::Path { absolute: true }) && !text.starts_with('/') {
            r.report(
                Diagnostic::error(
                    Code::RelativePath,
                    format!("{path} is \"{text}\", it must be an absolute path"),
                )
                .hint("start it with '/'; privileged helpers do not share a working directory"),
                &path,
                node.at,
            );
            return None;
        }
        Some(PathBuf::from(text))
    }

    pub(crate) fn list(&self, r: &mut Reader, name: &'static str) -> Option<Vec<String>> {
        let (_, path, node) = self.node(r, name)?;
        let Value::List(items) = &node.value else {
            return r.wrong_type(&path, node, "a list, [a, b] or one \"- a\" per line");
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in r.bounded(&path, node.at, items).iter().enumerate() {
            let path = format!("{path}[{index}]");
            r.note(path.clone(), None, item.at);
            if let Some(text) = r.scalar(&path, item) {
                list.push(text);
            }
        }
        Some(list)
    }
}
