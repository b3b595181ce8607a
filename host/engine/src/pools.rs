//! Pools over dRPC: what the daemon asks for, and what only our own daemon knows to ask.

use crate::catalogue::{CatalogueError, Handle, NewPool, Pool, State};
use crate::storage::quota::Usage;
use daos_drpc::methods::mgmt;
use daos_drpc::{Refusal, Request, reply};
use daos_proto::host::{EnginePool, EnginePools, EngineSpace};
use daos_proto::mgmt::{
    PoolCreateReq, PoolCreateResp, PoolDestroyReq, PoolDestroyResp, PoolGetPropReq,
    PoolGetPropResp, PoolProperty, PoolQueryReq, PoolQueryResp, PoolServiceState, PoolSetPropReq,
    PoolSetPropResp, StorageMediaType, StorageUsageStats, pool_property::Value,
};
use daos_proto::properties::{self, LABEL, OWNER, OWNER_GROUP};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Status of a request that cannot be understood, and of one for what does not exist.
const INVALID: i32 = -1003;
/// Status of what is not supported.
const NOT_SUPPORTED: i32 = -2037;

/// Answers to methods of [`module::MGMT`] about pools; `None` if it is not one of them.
pub(crate) async fn call(
    handle: &Handle,
    rank: u32,
    request: &Request,
) -> Option<Result<Vec<u8>, Refusal>> {
    Some(match request.method {
        mgmt::POOL_CREATE => match request.decode::<PoolCreateReq>() {
            Ok(create_req) => reply(&create(handle, rank, &create_req).await),
            Err(refusal) => Err(refusal),
        },
        mgmt::POOL_DESTROY => match request.decode::<PoolDestroyReq>() {
            Ok(destroy_req) => reply(&PoolDestroyResp {
                status: status(&destroy(handle, &destroy_req).await),
            }),
            Err(refusal) => Err(refusal),
        },
        mgmt::POOL_QUERY => match request.decode::<PoolQueryReq>() {
            Ok(query_req) => reply(&query(handle, rank, &query_req).await),
            Err(refusal) => Err(refusal),
        },
        mgmt::POOL_GET_PROP => match request.decode::<PoolGetPropReq>() {
            Ok(get) => reply(&get_properties(handle, &get)),
            Err(refusal) => Err(refusal),
        },
        mgmt::POOL_SET_PROP => match request.decode::<PoolSetPropReq>() {
            Ok(set) => reply(&PoolSetPropResp {
                status: status(&set_properties(handle, &set).await),
            }),
            Err(refusal) => Err(refusal),
        },
        _ => return None,
    })
}

/// Why a call fails: with a status that the protocol knows, and a text for the log.
enum Failure {
    Status(i32),
    Catalogue(CatalogueError),
}

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Self {
        Self::Catalogue(error)
    }
}

/// The status number of an outcome; what a number cannot say goes to the log.
fn status<T>(result: &Result<T, Failure>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(Failure::Status(status)) => *status,
        Err(Failure::Catalogue(error)) => {
            tracing::warn!(%error, "a call about a pool was refused");
            error.der()
        }
    }
}

fn uuid(text: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::Status(INVALID))
}

async fn create(handle: &Handle, rank: u32, request: &PoolCreateReq) -> PoolCreateResp {
    let made = make(handle, request).await;
    let status = status(&made);
    match made {
        Err(_) => PoolCreateResp {
            status,
            ..PoolCreateResp::default()
        },
        Ok(pool) => PoolCreateResp {
            svc_ldr: rank,
            svc_reps: vec![rank],
            tgt_ranks: vec![rank],
            tier_bytes: vec![pool.scm_bytes, pool.bdev_bytes],
            ..PoolCreateResp::default()
        },
    }
}

async fn make(handle: &Handle, request: &PoolCreateReq) -> Result<Pool, Failure> {
    let label = request.properties.iter().find(|p| p.number == LABEL);
    let Some(Value::Strval(label)) = label.and_then(|p| p.value.as_ref()) else {
        return Err(Failure::Status(INVALID));
    };
    let [scm_bytes, bdev_bytes] = request.tier_bytes[..] else {
        return Err(Failure::Status(INVALID));
    };
    let new = NewPool {
        id: uuid(&request.uuid)?,
        label: label.clone(),
        owner: request.user.clone(),
        owner_group: request.user_group.clone(),
        scm_bytes,
        bdev_bytes,
    };
    let (answer, answered) = oneshot::channel();
    handle.create_pool(
        new,
        // Whoever asked may have given up.
        Box::new(move |result| drop(answer.send(result))),
    );
    Ok(answered.await.unwrap_or_else(|_| Err(stopping()))?)
}

async fn destroy(handle: &Handle, request: &PoolDestroyReq) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    handle.destroy_pool(
        uuid(&request.id)?,
        request.recursive,
        // As above.
        Box::new(move |result| drop(answer.send(result))),
    );
    Ok(answered.await.unwrap_or_else(|_| Err(stopping()))?)
}

fn get_properties(handle: &Handle, request: &PoolGetPropReq) -> PoolGetPropResp {
    let found = values(handle, request);
    PoolGetPropResp {
        status: status(&found),
        properties: found.unwrap_or_default(),
    }
}

/// The values of the numbers that are asked for.
fn values(handle: &Handle, request: &PoolGetPropReq) -> Result<Vec<PoolProperty>, Failure> {
    let snapshot = handle.snapshot();
    let pool = snapshot
        .pool(uuid(&request.id)?)
        .map_err(CatalogueError::from)?;
    let value = |asked: &PoolProperty| {
        let property = properties::of_number(asked.number);
        let property = property.ok_or(Failure::Status(NOT_SUPPORTED))?;
        let text = |text: &str| Some(Value::Strval(text.to_owned()));
        let value = match asked.number {
            LABEL => text(&pool.label),
            OWNER => text(&pool.owner),
            OWNER_GROUP => text(&pool.owner_group),
            _ => property.fixed(),
        };
        Ok(property.entry(value))
    };
    request.properties.iter().map(value).collect()
}

/// Changes the label; everything else is what it is.
async fn set_properties(handle: &Handle, request: &PoolSetPropReq) -> Result<(), Failure> {
    let id = uuid(&request.id)?;
    let [
        PoolProperty {
            number: LABEL,
            value: Some(Value::Strval(label)),
        },
    ] = &request.properties[..]
    else {
        return Err(Failure::Status(NOT_SUPPORTED));
    };
    let (answer, answered) = oneshot::channel();
    // Whoever asked may have given up.
    let answer = Box::new(move |result| drop(answer.send(result)));
    handle.label_pool(id, label.clone(), answer);
    Ok(answered.await.unwrap_or_else(|_| Err(stopping()))?)
}

fn stopping() -> CatalogueError {
    CatalogueError::Io("the engine is stopping".to_owned())
}

async fn query(handle: &Handle, rank: u32, request: &PoolQueryReq) -> PoolQueryResp {
    let found = look(handle, rank, request).await;
    let status = status(&found);
    match found {
        Ok(answer) => answer,
        Err(_) => PoolQueryResp {
            status,
            ..PoolQueryResp::default()
        },
    }
}

async fn look(
    handle: &Handle,
    rank: u32,
    request: &PoolQueryReq,
) -> Result<PoolQueryResp, Failure> {
    let id = uuid(&request.id)?;
    let snapshot = handle.snapshot();
    let pool = match snapshot.pools().find(|pool| pool.id == id) {
        Some(pool) => pool.clone(),
        None => {
            return Err(CatalogueError::from(match snapshot.pool(id) {
                Err(missing) => missing,
                Ok(_) => return Err(Failure::Status(INVALID)),
            })
            .into());
        }
    };
    let capacity = handle.capacity();
    let used = usage(handle, id).await;
    let targets = capacity.targets;
    let quota = capacity.quota(&pool);
    let unit = u64::from(capacity.unit);
    let tier = |media_type: StorageMediaType, total: u64, free: Vec<u64>| StorageUsageStats {
        total,
        free: free.iter().sum(),
        min: free.iter().min().copied().unwrap_or(0),
        max: free.iter().max().copied().unwrap_or(0),
        mean: free.iter().sum::<u64>() / free.len().max(1) as u64,
        media_type: media_type.into(),
    };
    let scm = used
        .iter()
        .map(|u| quota.scm_bytes.saturating_sub(u.scm_bytes));
    let bdev = used
        .iter()
        .map(|u| quota.units.saturating_sub(u.units) * unit);
    let state = match pool.state {
        State::Live => PoolServiceState::Ready,
        State::Destroying => PoolServiceState::Destroying,
    };
    Ok(PoolQueryResp {
        uuid: pool.id.to_string(),
        label: pool.label.clone(),
        total_targets: targets,
        active_targets: targets,
        tier_stats: vec![
            tier(StorageMediaType::Scm, pool.scm_bytes, scm.collect()),
            tier(StorageMediaType::Nvme, pool.bdev_bytes, bdev.collect()),
        ],
        version: 1,
        leader: rank,
        enabled_ranks: rank.to_string(),
        total_engines: 1,
        state: state.into(),
        svc_ldr: rank,
        svc_reps: vec![rank],
        query_mask: request.query_mask,
        ..PoolQueryResp::default()
    })
}

/// What a pool uses on each target. A target that has ended says nothing.
async fn usage(handle: &Handle, pool: Uuid) -> Vec<Usage> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let answer: Arc<dyn Fn(u32, Usage) + Send + Sync> = Arc::new(move |_, usage| {
        // Whoever asked may have given up.
        let _ = sender.send(usage);
    });
    handle.usage(pool, &answer);
    drop(answer);
    let mut all = Vec::new();
    while let Some(usage) = receiver.recv().await {
        all.push(usage);
    }
    all
}

/// Pools of the engine, and what it has for more.
pub(crate) fn space(handle: &Handle) -> EnginePools {
    let snapshot = handle.snapshot();
    let capacity = handle.capacity();
    let (scm, bdev) = snapshot.promised();
    EnginePools {
        space: Some(EngineSpace {
            targets: capacity.targets,
            scm_total: capacity.scm_total(),
            scm_free: capacity.scm_total().saturating_sub(scm),
            bdev_total: capacity.bdev_total(),
            bdev_free: capacity.bdev_total().saturating_sub(bdev),
            ..EngineSpace::default()
        }),
        pools: snapshot
            .pools()
            .map(|pool| EnginePool {
                uuid: pool.id.to_string(),
                label: pool.label.clone(),
                scm_bytes: pool.scm_bytes,
                bdev_bytes: pool.bdev_bytes,
                created_ms: pool.created_ms,
                destroying: pool.state == State::Destroying,
                containers: snapshot.containers(pool.id).count() as u32,
            })
            .collect(),
    }
}
