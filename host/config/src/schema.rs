//! The part of JSON Schema that plugins describe their keys with.
//!
//! Checked: `type`, `enum`, `const`, `minimum`, `maximum`, `exclusiveMinimum`,
//! `exclusiveMaximum`, `minLength`, `maxLength`, `pattern`, `items`, `minItems`, `maxItems`,
//! `uniqueItems`, `properties`, `required` and `additionalProperties`. Read and not checked:
//! `title`, `description`, `default`, `examples`, `$schema`, `$id`, `$comment` and names that
//! start with `x-`. Any other keyword is reported, so that nobody believes it to be checked.
//! Patterns are searched for, not anchored, as JSON Schema has it; they are those of the crate
//! `regex-lite`: no look-around, no back references, linear time.

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::keys;

/// One way in which a value breaks a schema, or in which a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Path below the value that was checked: `.key` and `[index]` steps.
    pub(crate) path: String,
    /// Whether it is about the key at `path` rather than its value.
    pub(crate) on_key: bool,
    /// Whether the schema is at fault, not the value.
    pub(crate) in_schema: bool,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
];

/// Checks `value`; `name` is what messages call it.
pub(crate) fn check(schema: &Value, value: &Value, name: &str, out: &mut Vec<Violation>) {
    Checker { out }.value(schema, value, "", name);
}

/// Whether the schema has a property of this name.
pub(crate) fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(name)
}

/// The names of the schema's properties.
pub(crate) fn properties(schema: &Value) -> impl Iterator<Item = &str> + Clone {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|p| p.keys().map(String::as_str))
}

struct Checker<'o> {
    out: &'o mut Vec<Violation>,
}

impl Checker<'_> {
    fn fail(&mut self, path: &str, message: String, hint: Option<String>) {
        self.out.push(Violation {
            path: path.to_owned(),
            on_key: false,
            in_schema: false,
            message,
            hint,
        });
    }

    fn schema_fault(&mut self, path: &str, message: String) {
        self.out.push(Violation {
            path: path.to_owned(),
            on_key: false,
            in_schema: true,
            message,
            hint: None,
        });
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str, name: &str) {
        let rules = match schema {
            // A plugin without a schema has nothing to say about its keys.
            Value::Bool(true) | Value::Null => return,
            Value::Bool(false) => {
                return self.fail(path, format!("{name} is not allowed"), None);
            }
            Value::Object(rules) => rules,
            _ => return self.schema_fault(path, format!("the schema of {name} is not an object")),
        };
        if let Some(wanted) = rules.get("type")
            && !has_type(value, wanted)
        {
            // The other rules would only repeat it.
            let message = format!(
                "{name} must be {}, but {} was found",
                type_words(wanted),
                kind(value)
            );
            return self.fail(path, message, None);
        }
        for (keyword, rule) in rules {
            self.rule(rules, keyword, rule, value, path, name);
        }
    }

    fn rule(
        &mut self,
        rules: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        path: &str,
        name: &str,
    ) {
        match (keyword, value) {
            ("type", _) => {}
            ("enum", _) => self.choice(rule, value, path, name),
            ("const", _) if rule != value => {
                self.fail(path, format!("{name} must be {rule}"), None);
            }
            ("const", _) => {}
            ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", Value::Number(n)) => {
                self.bound(keyword, rule, n, path, name);
            }
            ("minLength" | "maxLength", Value::String(s)) => {
                self.size(keyword, rule, s.chars().count(), "characters", path, name);
            }
            ("minItems" | "maxItems", Value::Array(items)) => {
                self.size(keyword, rule, items.len(), "values", path, name);
            }
            ("pattern", Value::String(s)) => self.pattern(rule, s, path, name),
            ("uniqueItems", Value::Array(items)) if *rule == Value::Bool(true) => {
                for (i, item) in items.iter().enumerate() {
                    if items[..i].contains(item) {
                        let message = format!("{name} has {item} twice");
                        self.fail(&format!("{path}[{i}]"), message, None);
                    }
                }
            }
            ("items", Value::Array(items)) => {
                for (i, item) in items.iter().enumerate() {
                    self.value(rule, item, &format!("{path}[{i}]"), &format!("{name}[{i}]"));
                }
            }
            ("properties", Value::Object(object)) => {
                let Some(properties) = rule.as_object() else {
                    return self.schema_fault(path, "\"properties\" is not an object".to_owned());
                };
                for (key, schema) in properties {
                    if let Some(value) = object.get(key) {
                        self.value(schema, value, &format!("{path}.{key}"), key);
                    }
                }
            }
            ("required", Value::Object(object)) => {
                for key in rule.as_array().into_iter().flatten() {
                    match key.as_str() {
                        Some(key) if object.contains_key(key) => {}
                        Some(key) => {
                            let hint = property(&Value::Object(rules.clone()), key)
                                .and_then(|p| p.get("description"))
                                .and_then(Value::as_str)
                                .map(|d| format!("{key}: {d}"));
                            let message = format!("{name} needs the key {key}");
                            self.fail(path, message, hint.or(Some(format!("add {key}:"))));
                        }
                        None => {
                            self.schema_fault(path, "\"required\" is not a list of names".into());
                        }
                    }
                }
            }
            ("additionalProperties", Value::Object(object)) => {
                let known = Value::Object(rules.clone());
                for (key, value) in object {
                    if property(&known, key).is_some() {
                        continue;
                    }
                    if *rule == Value::Bool(false) {
                        self.out.push(Violation {
                            path: format!("{path}.{key}"),
                            on_key: true,
                            in_schema: false,
                            message: format!("unknown key \"{key}\" in {name}"),
                            hint: Some(keys::suggestion(key, properties(&known))),
                        });
                    } else {
                        self.value(rule, value, &format!("{path}.{key}"), key);
                    }
                }
            }
            (
                "minimum"
                | "maximum"
                | "exclusiveMinimum"
                | "exclusiveMaximum"
                | "minLength"
                | "maxLength"
                | "minItems"
                | "maxItems"
                | "pattern"
                | "uniqueItems"
                | "items"
                | "properties"
                | "required"
                | "additionalProperties",
                _,
            ) => {}
            (other, _) if ANNOTATIONS.contains(&other) || other.starts_with("x-") => {}
            (other, _) => self.schema_fault(
                path,
                format!("the schema of {name} uses \"{other}\", which is not checked"),
            ),
        }
    }

    fn choice(&mut self, rule: &Value, value: &Value, path: &str, name: &str) {
        let Some(choices) = rule.as_array() else {
            return self.schema_fault(path, format!("\"enum\" of {name} is not a list"));
        };
        if choices.contains(value) {
            return;
        }
        let words: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        let hint = match value.as_str() {
            Some(word) if words.len() == choices.len() => {
                keys::suggestion(word, words.iter().copied())
            }
            _ => {
                let all: Vec<String> = choices.iter().map(Value::to_string).collect();
                format!("valid are: {}", all.join(", "))
            }
        };
        self.fail(
            path,
            format!("{value} is not a valid value of {name}"),
            Some(hint),
        );
    }

    fn bound(
        &mut self,
        keyword: &str,
        rule: &Value,
        number: &serde_json::Number,
        path: &str,
        name: &str,
    ) {
        let Some(limit) = rule.as_number() else {
            return self.schema_fault(path, format!("\"{keyword}\" of {name} is not a number"));
        };
        let order = compare(number, limit);
        let (holds, words) = match keyword {
            "minimum" => (order.is_ge(), "at least"),
            "maximum" => (order.is_le(), "at most"),
            "exclusiveMinimum" => (order.is_gt(), "more than"),
            _ => (order.is_lt(), "less than"),
        };
        if !holds {
            self.fail(
                path,
                format!("{name} is {number}, it must be {words} {limit}"),
                None,
            );
        }
    }

    fn size(
        &mut self,
        keyword: &str,
        rule: &Value,
        count: usize,
        unit: &str,
        path: &str,
        name: &str,
    ) {
        let Some(limit) = rule.as_u64() else {
            return self.schema_fault(path, format!("\"{keyword}\" of {name} is not a count"));
        };
        let count = count as u64;
        let (holds, words) = if keyword.starts_with("min") {
            (count >= limit, "at least")
        } else {
            (count <= limit, "at most")
        };
        if !holds {
            let message = format!("{name} has {count} {unit}, it must have {words} {limit}");
            self.fail(path, message, None);
        }
    }

    fn pattern(&mut self, rule: &Value, text: &str, path: &str, name: &str) {
        match rule.as_str().map(compile) {
            Some(Ok(pattern)) if pattern.is_match(text) => {}
            Some(Ok(pattern)) => {
                let hint = if pattern.as_str().starts_with("^/") && !text.starts_with('/') {
                    "it must be an absolute path, starting with '/'".to_owned()
                } else {
                    format!("it must match the pattern {pattern}")
                };
                let message = format!("{name} is \"{text}\", which has the wrong form");
                self.fail(path, message, Some(hint));
            }
            Some(Err(why)) => {
                self.schema_fault(path, format!("the pattern of {name} is unusable: {why}"));
            }
            None => self.schema_fault(path, format!("the pattern of {name} is not text")),
        }
    }
}

/// Patterns come from plugins: bounded in size, so that compiling one is cheap.
fn compile(pattern: &str) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(pattern)
        .size_limit(1 << 16)
        .nest_limit(32)
        .build()
}

fn compare(a: &serde_json::Number, b: &serde_json::Number) -> std::cmp::Ordering {
    let whole = |n: &serde_json::Number| {
        n.as_i64()
            .map(i128::from)
            .or_else(|| n.as_u64().map(i128::from))
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let float = |n: &serde_json::Number| n.as_f64().unwrap_or(f64::NAN);
            float(a).total_cmp(&float(b))
        }
    }
}

fn has_type(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.iter().any(|w| has_type(value, w)),
        Value::String(name) => match name.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
            }
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
        _ => false,
    }
}

fn type_words(wanted: &Value) -> String {
    match wanted {
        Value::Array(any) => any.iter().map(type_words).collect::<Vec<_>>().join(" or "),
        Value::String(name) => match name.as_str() {
            "null" => "nothing",
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "string" => "text",
            "array" => "a list",
            "object" => "a group of keys",
            other => return format!("of the unknown type \"{other}\""),
        }
        .to_owned(),
        other => format!("of the unusable type {other}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_f64() => "a fractional number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of keys",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(schema: &Value, value: &Value) -> Vec<(String, String)> {
        let mut out = Vec::new();
        check(schema, value, "it", &mut out);
        out.into_iter().map(|v| (v.path, v.message)).collect()
    }

    #[test]
    fn every_supported_keyword_accepts_and_refuses() {
        for (schema, good, bad) in [
            (json!({"type": "integer"}), json!(3), json!("3")),
            (json!({"type": "integer"}), json!(3.0), json!(3.5)),
            (json!({"type": ["null", "string"]}), json!(null), json!(1)),
            (json!({"type": "boolean"}), json!(true), json!(0)),
            (json!({"enum": ["a", "b"]}), json!("a"), json!("c")),
            (json!({"enum": [1, "x"]}), json!(1), json!(2)),
            (json!({"const": 7}), json!(7), json!(8)),
            (json!({"minimum": 2}), json!(2), json!(1)),
            (json!({"maximum": u64::MAX}), json!(u64::MAX), json!(1e300)),
            (json!({"exclusiveMinimum": 2}), json!(2.5), json!(2)),
            (json!({"exclusiveMaximum": 2}), json!(1), json!(2)),
            (json!({"minLength": 2}), json!("äö"), json!("ä")),
            (json!({"maxLength": 1}), json!("ä"), json!("ab")),
            (json!({"pattern": "^/"}), json!("/x"), json!("x")),
            (
                json!({"items": {"type": "string"}}),
                json!(["a"]),
                json!([1]),
            ),
            (json!({"minItems": 1}), json!([0]), json!([])),
            (json!({"maxItems": 1}), json!([0]), json!([0, 0])),
            (json!({"uniqueItems": true}), json!([0, 1]), json!([1, 1])),
            (
                json!({"properties": {"a": {"type": "null"}}}),
                json!({"b": 1}),
                json!({"a": 1}),
            ),
            (json!({"required": ["a"]}), json!({"a": 1}), json!({})),
            (
                json!({"properties": {"a": {}}, "additionalProperties": false}),
                json!({"a": 1}),
                json!({"b": 1}),
            ),
            (
                json!({"additionalProperties": {"type": "string"}}),
                json!({"a": "x"}),
                json!({"a": 1}),
            ),
            (json!(true), json!(1), json!(1)),
        ] {
            assert_eq!(run(&schema, &good), [], "{schema} {good}");
            if schema != json!(true) {
                assert_eq!(run(&schema, &bad).len(), 1, "{schema} {bad}");
            }
        }
    }

    #[test]
    fn violations_point_into_the_value() {
        let schema = json!({"properties": {"list": {"items": {"pattern": "^/"}}}});
        let found = run(&schema, &json!({"list": ["/a", "b"]}));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, ".list[1]");
    }

    #[test]
    fn what_is_not_checked_is_said() {
        for schema in [
            json!({"oneOf": []}),
            json!({"pattern": "(?=x)"}),
            json!({"pattern": "("}),
            json!({"enum": 1}),
            json!({"minimum": "x"}),
            json!({"$ref": "#"}),
            json!(7),
        ] {
            let mut out = Vec::new();
            check(&schema, &json!("x"), "it", &mut out);
            check(&schema, &json!(1), "it", &mut out);
            assert!(out.iter().any(|v| v.in_schema), "{schema}");
        }
        assert_eq!(
            run(&json!({"x-mutable": true, "title": "t"}), &json!(1)),
            []
        );
    }
}
