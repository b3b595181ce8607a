//! `pool get-prop` and `pool set-prop`.

use super::{connect, failed};
use crate::cli::{Cli, GetPropArgs, SetPropArgs};
use daos_proto::mgmt::pool_property::Value;
use daos_proto::mgmt::{PoolGetPropReq, PoolProperty, PoolSetPropReq};
use daos_proto::properties::{Kind, PROPERTIES, Property, of_name, of_number, shown};
use daos_report::{Envelope, print_json, table};
use serde::Serialize;

/// A property with its value.
#[derive(Serialize)]
struct Row {
    name: String,
    description: String,
    /// Text or number.
    value: serde_json::Value,
}

/// A property by its name.
pub(crate) fn name(text: &str) -> Result<&'static Property, String> {
    of_name(text.trim()).ok_or_else(|| {
        let names: Vec<&str> = PROPERTIES.iter().map(|p| p.name).collect();
        format!("{text:?} is no property; there are {}", names.join(", "))
    })
}

/// A property with the value that it shall have, `name:value`.
pub(crate) fn assignment(text: &str) -> Result<PoolProperty, String> {
    let (key, value) = text
        .split_once([':', '='])
        .ok_or_else(|| format!("{text:?} is no NAME:VALUE"))?;
    let property = name(key)?;
    let value = match property.kind {
        Kind::Text(_) | Kind::FixedText(_) => Value::Strval(value.to_owned()),
        Kind::Fixed(_) => {
            let number = value.trim().parse();
            Value::Numval(number.map_err(|_| format!("{}: {value:?} is no number", property.name))?)
        }
    };
    Ok(property.entry(Some(value)))
}

pub(crate) async fn get(cli: &Cli, args: &GetPropArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let wanted: Vec<&Property> = match args.names.is_empty() {
        true => PROPERTIES.iter().collect(),
        false => args.names.clone(),
    };
    let request = PoolGetPropReq {
        id: args.pool.clone(),
        properties: wanted.iter().map(|p| p.entry(None)).collect(),
        ..PoolGetPropReq::default()
    };
    let answer = connect(cli, hosts).await?.pool_get_prop(request).await;
    let answer = answer.map_err(|s| failed(&s))?.into_inner();
    let rows: Vec<Row> = answer
        .properties
        .iter()
        .map(|property| {
            let known = of_number(property.number);
            Row {
                name: known.map_or_else(|| property.number.to_string(), |p| p.name.to_owned()),
                description: known.map_or("", |p| p.about).to_owned(),
                value: match &property.value {
                    None => serde_json::Value::Null,
                    Some(Value::Strval(text)) => text.clone().into(),
                    Some(Value::Numval(number)) => (*number).into(),
                },
            }
        })
        .collect();
    if cli.json {
        print_json(&Envelope::ok(rows))?;
        return Ok(true);
    }
    let words = answer.properties.iter().zip(&rows).map(|(property, row)| {
        let value = shown(property.value.as_ref());
        vec![row.name.clone(), value, row.description.clone()]
    });
    daos_report::print_line!("{}", table(&["PROPERTY", "VALUE", "MEANING"], words));
    Ok(true)
}

pub(crate) async fn set(cli: &Cli, args: &SetPropArgs, hosts: &[String]) -> anyhow::Result<bool> {
    let request = PoolSetPropReq {
        id: args.pool.clone(),
        properties: args.assignments.clone(),
        ..PoolSetPropReq::default()
    };
    let answer = connect(cli, hosts).await?.pool_set_prop(request).await;
    answer.map_err(|s| failed(&s))?;
    if cli.json {
        print_json(&Envelope::ok(serde_json::Map::new()))?;
    } else {
        daos_report::print_line!("pool {}: set", args.pool);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_name_a_property_and_a_value() {
        let label = assignment("label:tank").unwrap();
        assert_eq!(
            (label.number, label.value),
            (1, Some(Value::Strval("tank".to_owned())))
        );
        let scrub = assignment("scrub=0").unwrap();
        assert_eq!((scrub.number, scrub.value), (16, Some(Value::Numval(0))));
        for (wrong, words) in [
            ("label", "NAME:VALUE"),
            ("colour:red", "there are label"),
            ("scrub:lazy", "no number"),
        ] {
            assert!(assignment(wrong).unwrap_err().contains(words), "{wrong}");
        }
    }
}
