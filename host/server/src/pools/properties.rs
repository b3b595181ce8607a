//! Properties of a pool. Its engines keep them; what is the same for every pool cannot be changed.

use super::create::refuse_duplicate;
use super::{Located, Pools, locate};
use daos_proto::fault::{NOT_SUPPORTED, daos_status};
use daos_proto::mgmt::{
    PoolGetPropReq, PoolGetPropResp, PoolProperty, PoolSetPropReq, PoolSetPropResp,
    pool_property::Value,
};
use daos_proto::properties::{Kind, LABEL, PROPERTIES, Property, of_number, shown};
use daos_wire::check_label;
use tonic::Status;
use tracing::{error, info};

/// Status number of a request that makes no sense.
const INVALID: i32 = -1003;

fn known(number: u32) -> Result<&'static Property, Status> {
    of_number(number).ok_or_else(|| {
        let text = format!("pools have no property of number {number} here");
        daos_status(NOT_SUPPORTED, &text)
    })
}

/// Refuses a property that has another value than every pool has.
pub(super) fn check_fixed(property: &PoolProperty) -> Result<(), Status> {
    let row = known(property.number)?;
    let fixed = row.fixed();
    if fixed.is_some() && fixed == property.value {
        return Ok(());
    }
    let text = match fixed {
        Some(fixed) => format!(
            "property {} is {} for every pool and cannot be {}",
            row.name,
            shown(Some(&fixed)),
            shown(property.value.as_ref())
        ),
        None => format!("property {} cannot be changed", row.name),
    };
    Err(daos_status(NOT_SUPPORTED, &text))
}

/// Values of properties: those that are asked for, else all.
pub(super) async fn get(
    pool: &Located,
    mut request: PoolGetPropReq,
) -> Result<PoolGetPropResp, Status> {
    for property in &request.properties {
        known(property.number)?;
    }
    if request.properties.is_empty() {
        request.properties = PROPERTIES.iter().map(|p| p.entry(None)).collect();
    }
    request.id = pool.id.to_string();
    request.svc_ranks = pool.ranks();
    // They are the same on all; where a change was cut short, as on the first.
    let Some((member, _)) = pool.parts.first() else {
        return Ok(PoolGetPropResp::default());
    };
    let answer = member.get_properties(&request).await?;
    match answer.status {
        0 => Ok(answer),
        status => {
            let text = format!("rank {} cannot tell about pool {}", member.rank, pool.label);
            Err(daos_status(status, &text))
        }
    }
}

/// Changes properties.
pub(super) async fn set(pools: &Pools, request: PoolSetPropReq) -> Result<PoolSetPropResp, Status> {
    let pool = pools.find(&request.id, &pools.all_members()?).await?;
    let mut label = None;
    for property in &request.properties {
        match (known(property.number)?.kind, &property.value) {
            (Kind::Text(true), Some(Value::Strval(text))) => label = Some(text.clone()),
            (Kind::Text(true), _) => return Err(daos_status(INVALID, "a label is a text")),
            _ => check_fixed(property)?,
        }
    }
    if request.properties.is_empty() {
        return Err(daos_status(INVALID, "no property is named"));
    }
    let Some(label) = label else {
        return Ok(PoolSetPropResp { status: 0 });
    };
    check_label(&label).map_err(|e| daos_status(INVALID, &format!("label {label:?}: {e}")))?;
    let all = locate(&pools.members(|_| true)).await?;
    refuse_duplicate(all.values(), pool.id, &label)?;
    for (done, (member, _)) in pool.parts.iter().enumerate() {
        let status = match member.set_properties(&labelling(&pool, &label)).await {
            Ok(0) => continue,
            Ok(status) => {
                let text = format!(
                    "pool {} was not labelled on rank {}; see the engine's log",
                    pool.label, member.rank
                );
                daos_status(status, &text)
            }
            Err(status) => status,
        };
        // Also on the one that failed: its answer may be all that was lost.
        for (member, part) in &pool.parts[..=done] {
            let undone = member.set_properties(&labelling(&pool, &part.label)).await;
            if !matches!(undone, Ok(0)) {
                error!(pool = %pool.id, rank = member.rank, "its part may have the label {label}");
            }
        }
        return Err(status);
    }
    info!(pool = %pool.id, was = pool.label, label, "pool labelled");
    Ok(PoolSetPropResp { status: 0 })
}

fn labelling(pool: &Located, label: &str) -> PoolSetPropReq {
    PoolSetPropReq {
        id: pool.id.to_string(),
        properties: vec![PoolProperty {
            number: LABEL,
            value: Some(Value::Strval(label.to_owned())),
        }],
        svc_ranks: pool.ranks(),
        ..PoolSetPropReq::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::fault::status_number;

    #[test]
    fn only_what_is_true_anyway_can_be_asked_for() {
        let property = |number, value| PoolProperty { number, value };
        assert!(check_fixed(&property(16, Some(Value::Numval(0)))).is_ok());
        for (number, value, words) in [
            (16, Some(Value::Numval(2)), "scrub is 0"),
            (16, None, "cannot be not set"),
            (15, Some(Value::Strval("x".to_owned())), "upgrade_status"),
            (
                6,
                Some(Value::Strval("me@".to_owned())),
                "cannot be changed",
            ),
            (99, Some(Value::Numval(0)), "number 99"),
        ] {
            let status = check_fixed(&property(number, value)).unwrap_err();
            assert_eq!(status_number(&status), Some(NOT_SUPPORTED), "{number}");
            assert!(status.message().contains(words), "{status}");
        }
    }
}
