//! Layers over the block devices of running engines: asked for and changed over dRPC.

use crate::state::State;
use daos_drpc::Client;
use daos_drpc::methods::{host, module};
use daos_proto::ctl::ResponseStatus;
use daos_proto::host::{EngineLayers, EngineState, Fault, SetLayersRequest};
use std::path::PathBuf;
use std::time::Duration;
use tonic::Status;
use tracing::{info, warn};

/// How long an engine may take to answer. Longer than it waits for its targets.
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(30);

/// An engine that serves.
struct Member {
    index: usize,
    rank: u32,
    socket: PathBuf,
}

fn fault(what: &str, cause: &str, remedy: &str) -> Box<Fault> {
    let status = ResponseStatus::CtlErrApp;
    Box::new(Fault::new(status, "server", 0, what, cause, remedy))
}

/// The engines of those ranks; all that serve if none is named.
fn members(state: &State, ranks: &[u32]) -> Result<Vec<Member>, Status> {
    let mut serving = Vec::new();
    for (index, engine) in state.engines().into_iter().enumerate() {
        if engine.state == EngineState::Ready
            && let Some(rank) = engine.rank
        {
            serving.push(Member {
                index,
                rank,
                socket: engine.drpc_socket.into(),
            });
        }
    }
    let remedy = "`daos_shell system query` shows the engines and their states";
    let known = |rank: &&u32| serving.iter().any(|m| m.rank == **rank);
    if let Some(rank) = ranks.iter().find(|rank| !known(rank)) {
        let what = format!("no engine of rank {rank} serves on this host");
        return Err(fault(&what, "", remedy).to_status());
    }
    if serving.is_empty() {
        return Err(fault("no engine serves on this host", "", remedy).to_status());
    }
    serving.retain(|m| ranks.is_empty() || ranks.contains(&m.rank));
    Ok(serving)
}

/// The layers of engines, each of which may take so long to answer.
pub(crate) async fn list(
    state: &State,
    ranks: &[u32],
    within: Duration,
) -> Result<Vec<EngineLayers>, Status> {
    let mut answers = Vec::new();
    for member in members(state, ranks)? {
        answers.push(call(&member, host::LAYERS_LIST, &(), within).await);
    }
    Ok(answers)
}

/// Puts other layers over the devices of engines.
pub(crate) async fn set(
    state: &State,
    request: SetLayersRequest,
) -> Result<Vec<EngineLayers>, Status> {
    let specs = daos_layers::parse(&request.layers).map_err(|e| {
        let remedy = "docs/layers.md has an example of each layer";
        fault("the layers are not understood", &e.to_string(), remedy).to_status()
    })?;
    let names: Vec<String> = specs.iter().map(|spec| spec.name().to_owned()).collect();
    let mut answers = Vec::new();
    for member in members(state, &request.ranks)? {
        let wanted = SetLayersRequest {
            ranks: Vec::new(),
            layers: request.layers.clone(),
        };
        let answer = call(&member, host::LAYERS_SET, &wanted, CALL_WITHIN).await;
        let (engine, layers) = (member.index, names.join(","));
        if let Some(fault) = &answer.fault {
            warn!(engine, layers, "layers could not be changed: {fault}");
        } else {
            if names.iter().any(|name| name == "fault") {
                warn!(
                    engine,
                    layers, "FAULTS ARE INJECTED into the block devices of this engine"
                );
            } else {
                info!(
                    engine,
                    layers, "layers over the block devices of this engine"
                );
            }
            state.update(member.index, |e| e.layers.clone_from(&names));
        }
        answers.push(answer);
    }
    Ok(answers)
}

async fn call(
    member: &Member,
    method: i32,
    request: &impl prost::Message,
    within: Duration,
) -> EngineLayers {
    let answer = async {
        let mut client = Client::connect(&member.socket, within).await?;
        client.request(module::HOST, method, request, within).await
    };
    let answer: Result<EngineLayers, daos_drpc::Error> = answer.await;
    let mut layers = answer.unwrap_or_else(|error| EngineLayers {
        fault: Some(*fault(
            &format!("engine {} did not do it", member.index),
            &error.to_string(),
            "its log may say more",
        )),
        ..EngineLayers::default()
    });
    (layers.engine, layers.rank) = (member.index as u32, member.rank);
    layers
}
