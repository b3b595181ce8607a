//! The YAML document as a tree whose nodes know where they were written.
//!
//! serde-saphyr does the parsing; deserialising into this tree instead of into the final
//! structs keeps every position, repeated keys and several errors per run.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};

use crate::diagnostic::{Code, Diagnostic};
use crate::source::{Source, Span};

/// The largest file that is read, in bytes. The fully commented example has about 20 KB.
pub const MAX_FILE_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Span,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// What to call it in a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a fractional number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a group of keys",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `defined` is the text itself; for an alias, `referenced` would only be its `*name`.
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            at: span_of(spanned.defined),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
                Ok(Value::Bool(v))
            }

            fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
                Ok(Value::Int(v.into()))
            }

            fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
                Ok(Value::Int(v.into()))
            }

            fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
                Ok(Value::Float(v))
            }

            fn visit_str<E>(self, v: &str) -> Result<Value, E> {
                Ok(Value::Text(v.to_owned()))
            }

            fn visit_string<E>(self, v: String) -> Result<Value, E> {
                Ok(Value::Text(v))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Value::Map(entries))
            }
        }

        deserializer.deserialize_any(AnyValue)
    }
}

fn span_of(location: Location) -> Span {
    let span = location.span();
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let (start, end) = match (span.byte_offset(), span.byte_len()) {
        (Some(start), Some(len)) => (small(start), small(start.saturating_add(len))),
        _ => (0, 0),
    };
    Span {
        line: small(location.line()),
        column: small(location.column()),
        length: small(span.len()),
        start,
        end,
    }
}

/// Parses one YAML document. The budgets are far above any real configuration and far below
/// what could exhaust memory or the stack.
pub(crate) fn parse(source: &Source, text: &str) -> Result<Node, Box<Diagnostic>> {
    if text.len() > MAX_FILE_BYTES {
        let d = Diagnostic::error(
            Code::Syntax,
            format!(
                "the file has {} bytes; a configuration has at most {MAX_FILE_BYTES}",
                text.len()
            ),
        )
        .in_file(source.name());
        return Err(Box::new(d));
    }
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 24,
            flow_nesting_limit: 24,
            max_events: 100_000,
            max_nodes: 20_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 50_000,
            max_documents: 1,
            max_buffered_comment_events: 100_000,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 16,
        },
        emit_comments: false,
        // Repeated keys are reported by our own reader, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // Only true and false are booleans by themselves, and `007` is not a number: text stays
        // as it was written.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options)
        .map_err(|error| Box::new(syntax_error(source, &error)))
}

fn syntax_error(source: &Source, error: &serde_yaml::Error) -> Diagnostic {
    let location = error.location();
    let mut message = error.without_snippet().render();
    // The library ends its text with the place, which the finding shows in its own way.
    if let Some(cut) = message
        .find(" at line ")
        .or_else(|| message.find("\n"))
        .filter(|_| location.is_some())
    {
        message.truncate(cut);
    }
    let diagnostic = Diagnostic::error(Code::Syntax, format!("not valid YAML: {message}"))
        .hint("see the commented example daos_server.yml for the expected form");
    match location {
        Some(location) => diagnostic.at(source, span_of(location)),
        None => diagnostic.in_file(source.name()),
    }
}
