//! dRPC with the daemon: it is told that the engine listens, and it gives the engine its rank.

use crate::catalogue::Handle;
use crate::config::Options;
use crate::devices::Devices;
use crate::engine::Engine;
use crate::error::StartError;
use crate::host_calls::HostCalls;
use crate::layers::Layers;
use crate::logging;
use crate::pools;
use crate::telemetry::Telemetry;
use daos_drpc::methods::{host, mgmt, module, srv};
use daos_drpc::{Client, Module, Refusal, Reply, Request, Router, Server, reply};
use daos_proto::ctl::{SetLogMasksReq, SetLogMasksResp};
use daos_proto::host::EngineTargetFailed;
use daos_proto::mgmt::{DaosResp, SetRankReq};
use daos_proto::srv::NotifyReadyReq;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Status of a request that makes no sense (DER_INVAL).
const INVALID: i32 = -1003;

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Module 2 of the engine's dRPC socket.
pub struct Management {
    catalogue: Handle,
    rank: AtomicU32,
    has_rank: AtomicBool,
    set_up: Notify,
}

impl Management {
    /// Before the daemon has called.
    pub fn new(catalogue: Handle) -> Arc<Self> {
        Arc::new(Self {
            catalogue,
            rank: AtomicU32::new(0),
            has_rank: AtomicBool::new(false),
            set_up: Notify::new(),
        })
    }

    /// Waits for SetUp, the daemon's last call of a start; returns the rank it gave.
    pub async fn set_up(&self) -> u32 {
        self.set_up.notified().await;
        self.rank.load(Ordering::Acquire)
    }
}

impl Module for Management {
    fn id(&self) -> i32 {
        module::MGMT
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        Box::pin(async move {
            let rank = self.rank.load(Ordering::Acquire);
            if let Some(answer) = pools::call(&self.catalogue, rank, &request).await {
                return answer;
            }
            match request.method {
                mgmt::SET_RANK => {
                    let set: SetRankReq = request.decode()?;
                    self.rank.store(set.rank, Ordering::Release);
                    self.has_rank.store(true, Ordering::Release);
                    tracing::info!(rank = set.rank, "rank set");
                }
                mgmt::SET_UP if !self.has_rank.load(Ordering::Acquire) => {
                    return Err(Refusal::Failed("SetUp before SetRank".to_owned()));
                }
                // Keeps one wake-up if nobody waits yet.
                mgmt::SET_UP => self.set_up.notify_one(),
                mgmt::PING_RANK => {}
                mgmt::SET_LOG_MASKS => return reply(&set_log_masks(&request.decode()?)),
                // Everything acknowledged is durable already; SIGTERM commits the rest.
                mgmt::PREP_SHUTDOWN => {}
                _ => return Err(Refusal::UnknownMethod),
            }
            reply(&DaosResp { status: 0 })
        })
    }
}

/// Changes the log mask of this engine.
fn set_log_masks(request: &SetLogMasksReq) -> SetLogMasksResp {
    if !request.streams.is_empty() || !request.subsystems.is_empty() {
        tracing::warn!("debug streams and subsystems are not known to this engine");
        return SetLogMasksResp {
            status: INVALID,
            ..SetLogMasksResp::default()
        };
    }
    let text = match request.reset_masks {
        true => "",
        false => &request.masks,
    };
    let status = match logging::masks().overlay(text) {
        Ok(()) => {
            let mask = logging::masks().current();
            tracing::info!(%mask, "log mask");
            0
        }
        Err(why) => {
            tracing::warn!("the log mask {text:?} is not taken: {why}");
            INVALID
        }
    };
    SetLogMasksResp {
        status,
        ..SetLogMasksResp::default()
    }
}

/// Path of the engine's own socket.
pub fn socket_path(options: &Options) -> PathBuf {
    let name = format!("daos_engine_{}.sock", std::process::id());
    options.socket_dir.join(name)
}

/// Listens for the daemon.
///
/// # Errors
/// If the socket directory is missing or not writable.
pub fn listen(
    path: &Path,
    management: Arc<Management>,
    layers: Arc<Layers>,
    devices: Devices,
    telemetry: Telemetry,
) -> Result<Server, StartError> {
    let host = Arc::new(HostCalls {
        catalogue: management.catalogue.clone(),
        layers,
        devices,
        telemetry,
    });
    Server::bind(path, Router::new().with(management).with(host)).map_err(|e| {
        StartError::failed(format_args!(
            "{e}; the socket directory (key `socket_dir`) must exist and be writable"
        ))
    })
}

/// Tells the daemon that a target serves nothing any more.
///
/// # Errors
/// If the daemon is not there or does not take it.
pub async fn target_failed(
    options: &Options,
    target: u32,
    reason: &str,
) -> Result<(), daos_drpc::Error> {
    let told = EngineTargetFailed {
        engine: options.index,
        target,
        reason: reason.to_owned(),
    };
    let mut client = Client::connect(&server_socket(options), ANSWER_WITHIN).await?;
    let body = prost::Message::encode_to_vec(&told);
    let method = host::TARGET_FAILED;
    client
        .call(module::HOST, method, body, ANSWER_WITHIN)
        .await?;
    Ok(())
}

/// Path of the daemon's socket.
fn server_socket(options: &Options) -> PathBuf {
    options.socket_dir.join("daos_server.sock")
}

/// Tells the daemon that the engine listens and can be reached.
///
/// # Errors
/// If the daemon is not there or does not want this engine.
pub async fn notify_ready(
    options: &Options,
    engine: &Engine,
    socket: &Path,
) -> Result<(), StartError> {
    let failed = |e: daos_drpc::Error| {
        StartError::failed(format_args!("daos_server does not take the engine: {e}"))
    };
    let absolute = std::path::absolute(socket).map_err(StartError::failed)?;
    let incarnation = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64); // fits until the year 2554
    let request = NotifyReadyReq {
        uri: engine.uri().to_string(),
        nctxs: options.targets,
        drpc_listener_sock: absolute.display().to_string(),
        instance_idx: options.index,
        ntgts: options.targets,
        incarnation,
        ..NotifyReadyReq::default()
    };
    let mut client = Client::connect(&server_socket(options), ANSWER_WITHIN)
        .await
        .map_err(failed)?;
    let body = prost::Message::encode_to_vec(&request);
    client
        .call(module::SRV, srv::NOTIFY_READY, body, ANSWER_WITHIN)
        .await
        .map_err(failed)?;
    Ok(())
}
