//! Reads the documents, and refuses what cannot be.

use super::{Action, DelayRule, Distribution, FaultRule, LAYERS_MAX, LayerSpec, Op, SpecError};
use daos_plugin_api::abi::Request;
use serde_json::Value;

fn fail<T>(text: impl Into<String>) -> Result<T, SpecError> {
    Err(SpecError(text.into()))
}

/// Reads and checks a list of layers, the JSON form of `bdev_layers`.
///
/// # Errors
/// Which entry is wrong, and how.
pub fn parse(layers: &str) -> Result<Vec<LayerSpec>, SpecError> {
    let entries: Vec<Value> = serde_json::from_str(layers)
        .map_err(|e| SpecError(format!("the layers are no JSON list: {e}")))?;
    if entries.len() > LAYERS_MAX {
        return fail(format!(
            "{} layers, at most {LAYERS_MAX} fit over a device",
            entries.len()
        ));
    }
    let numbered = entries.iter().enumerate();
    numbered
        .map(|(n, entry)| parse_one(entry).map_err(|e| SpecError(format!("layer {n}: {e}"))))
        .collect()
}

/// Reads and checks one layer.
///
/// # Errors
/// What is wrong with it.
pub fn parse_one(entry: &Value) -> Result<LayerSpec, SpecError> {
    // `stats:` without a value, as one writes it in YAML.
    let entry = match entry {
        Value::Object(map) if map.len() == 1 => {
            let (name, value) = map.iter().next().unwrap_or_else(|| unreachable!());
            let value = match value {
                Value::Null => Value::Object(serde_json::Map::new()),
                other => other.clone(),
            };
            serde_json::json!({ name.as_str(): value })
        }
        Value::Object(map) => {
            return fail(format!(
                "an entry names one layer (fault, delay or stats), this one has {} keys",
                map.len()
            ));
        }
        _ => return fail("an entry is a layer with its settings, as in `- stats: {}`"),
    };
    let spec: LayerSpec = serde_json::from_value(entry).map_err(|e| SpecError(e.to_string()))?;
    match &spec {
        LayerSpec::Fault(fault) => fault.rules.iter().try_for_each(FaultRule::check)?,
        LayerSpec::Delay(delay) => {
            if delay.rules.is_empty() {
                return fail("delay has no rules");
            }
            for rule in &delay.rules {
                rule.distribution()?;
            }
        }
        LayerSpec::Stats(_) => {}
    }
    Ok(spec)
}

impl FaultRule {
    /// The operations that the action can hit.
    fn possible(&self) -> &'static [Op] {
        match self.action {
            Action::Error | Action::Remove => &Op::ALL,
            Action::Torn => &[Op::Write],
            Action::Drop => &[Op::Write, Op::Flush, Op::Unmap, Op::WriteZeroes],
            Action::Flip => &[Op::Read, Op::Write],
        }
    }

    fn check(&self) -> Result<(), SpecError> {
        let possible = self.possible();
        if let Some(op) = self.op.iter().find(|op| !possible.contains(op)) {
            return fail(
                format!("{:?} cannot hit the operation {}", self.action, op.name()).to_lowercase(),
            );
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return fail(format!(
                "probability is {}, it must be 0 to 1",
                self.probability
            ));
        }
        if let (Some(first), Some(last)) = (self.first_block, self.last_block)
            && first > last
        {
            return fail(format!("first_block {first} lies behind last_block {last}"));
        }
        if self.status.is_some() && matches!(self.action, Action::Flip | Action::Remove) {
            return fail("status belongs to error, torn and drop");
        }
        Ok(())
    }

    /// Whether it is about requests of this kind and place.
    pub(crate) fn matches(&self, request: &Request) -> bool {
        let Some(op) = Op::of(request.op) else {
            return false;
        };
        let named = match (self.op.is_empty(), self.action) {
            (true, Action::Flip) => op == Op::Read,
            (true, Action::Drop) => op == Op::Write,
            (true, _) => self.possible().contains(&op),
            (false, _) => self.op.contains(&op),
        };
        if self.first_block.is_none() && self.last_block.is_none() {
            return named;
        }
        // A flush has no place.
        let last = match request.blocks {
            0 => return false,
            blocks => request.lba.saturating_add(blocks - 1),
        };
        named
            && self.first_block.is_none_or(|first| last >= first)
            && self.last_block.is_none_or(|end| request.lba <= end)
    }
}

impl DelayRule {
    /// Its distribution.
    ///
    /// # Errors
    /// If it has none, or several, or one that cannot be.
    pub fn distribution(&self) -> Result<Distribution, SpecError> {
        let given = [
            self.fixed_us.map(Distribution::Fixed),
            self.uniform_us.map(|[a, b]| Distribution::Uniform(a, b)),
            self.normal_us
                .map(|[m, d]| Distribution::Normal(m as f64, d as f64)),
            self.lognormal_us.map(|[median, p99]| {
                let median = (median as f64).max(1.0);
                // The 99th percentile of the normal distribution lies 2.326 deviations above the mean.
                let deviation = ((p99 as f64).max(1.0) / median).ln() / 2.326_347_9;
                Distribution::LogNormal(median.ln(), deviation)
            }),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(Distribution::Uniform(from, to)), None) if from > to => {
                fail(format!("uniform_us goes from {from} to {to}"))
            }
            (Some(Distribution::LogNormal(_, deviation)), None) if deviation < 0.0 => {
                fail("the 99th percentile of lognormal_us lies below its median")
            }
            (Some(one), None) => Ok(one),
            (None, _) => {
                fail("a delay needs one of fixed_us, uniform_us, normal_us and lognormal_us")
            }
            (Some(_), Some(_)) => fail("a delay has one distribution, this one has several"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{SCHEMA, StatusWord};

    #[test]
    fn what_the_documentation_shows_is_accepted() {
        let text = r#"[
            {"fault": {"seed": 7, "rules": [
                {"do": "error", "op": ["read"], "first_block": 100, "last_block": 200, "status": "media"},
                {"do": "torn", "probability": 0.01},
                {"do": "drop", "op": ["flush"], "count": 3},
                {"do": "flip", "op": ["write"], "skip": 10},
                {"do": "remove", "skip": 1000}]}},
            {"delay": {"rules": [{"op": ["write"], "lognormal_us": [80, 2000]}, {"fixed_us": 20}]}},
            {"stats": null}]"#;
        let layers = parse(text).unwrap();
        let names: Vec<_> = layers.iter().map(LayerSpec::name).collect();
        assert_eq!(names, ["fault", "delay", "stats"]);
        let again = parse(&serde_json::to_string(&layers).unwrap()).unwrap();
        assert_eq!(again, layers);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (entry, words) in [
            (r#"{"fault": {"ruels": []}}"#, "ruels"),
            (r#"{"faults": {}}"#, "faults"),
            (r#"{"fault": {}, "stats": {}}"#, "one layer"),
            (r#""stats""#, "as in"),
            (r#"{"fault": {"rules": [{"op": ["read"]}]}}"#, "do"),
            (
                r#"{"fault": {"rules": [{"do": "torn", "op": ["read"]}]}}"#,
                "torn cannot hit",
            ),
            (
                r#"{"fault": {"rules": [{"do": "error", "probability": 2}]}}"#,
                "probability",
            ),
            (
                r#"{"fault": {"rules": [{"do": "error", "first_block": 2, "last_block": 1}]}}"#,
                "behind",
            ),
            (
                r#"{"fault": {"rules": [{"do": "flip", "status": "io"}]}}"#,
                "status",
            ),
            (r#"{"delay": {"rules": []}}"#, "no rules"),
            (r#"{"delay": {"rules": [{}]}}"#, "needs one of"),
            (
                r#"{"delay": {"rules": [{"fixed_us": 1, "normal_us": [1, 1]}]}}"#,
                "several",
            ),
            (
                r#"{"delay": {"rules": [{"uniform_us": [2, 1]}]}}"#,
                "from 2 to 1",
            ),
            (
                r#"{"delay": {"rules": [{"lognormal_us": [9, 1]}]}}"#,
                "percentile",
            ),
        ] {
            let error = parse(&format!("[{entry}]")).unwrap_err().to_string();
            assert!(error.contains(words), "{entry}: {error}");
        }
        assert!(parse("{}").is_err());
        let many = [r#"{"stats":{}}"#; 9].join(",");
        assert!(parse(&format!("[{many}]")).is_err());
    }

    #[test]
    fn the_schema_is_json_and_knows_every_key() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let rule = &schema["properties"]["fault"]["properties"]["rules"]["items"]["properties"];
        let full = FaultRule {
            action: Action::Error,
            op: vec![Op::Read],
            first_block: Some(1),
            last_block: Some(2),
            skip: 1,
            count: Some(1),
            probability: 0.5,
            status: Some(StatusWord::Io),
        };
        let keys = serde_json::to_value(full).unwrap();
        for key in keys.as_object().unwrap().keys() {
            assert!(rule.get(key).is_some(), "{key}");
        }
        assert_eq!(
            rule.as_object().unwrap().len(),
            keys.as_object().unwrap().len()
        );
        let rule = &schema["properties"]["delay"]["properties"]["rules"]["items"]["properties"];
        assert_eq!(rule.as_object().unwrap().len(), 5);
    }
}
