//! What the server tells of itself unasked: its log, systemd, and the health service.

use crate::membership::health_name;
use crate::services::MgmtService;
use crate::state::State;
use daos_proto::host::{EngineState, ServerPhase};
use daos_proto::mgmt::mgmt_svc_server::MgmtSvcServer;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{info, warn};
use uuid::Uuid;

/// Logs each change of phase, and tells systemd and whoever asks for the health of the management service.
pub(crate) async fn keep_told(state: Arc<State>, health: HealthReporter) {
    let mut changes = state.changes();
    let mut last = ServerPhase::Unspecified;
    let mut told_ready = false;
    let mut engines = BTreeSet::new();
    loop {
        report_engines(&state, &health, &mut engines).await;
        let (phase, reason, hint) = state.phase();
        if phase != last {
            last = phase;
            // The service as a whole serves as long as the server does, which it is from the start.
            match phase {
                ServerPhase::Ready => health.set_serving::<Managed>().await,
                _ => health.set_not_serving::<Managed>().await,
            }
            let name = phase
                .as_str_name()
                .trim_start_matches("SERVER_PHASE_")
                .to_lowercase();
            let hint = if hint.is_empty() {
                String::new()
            } else {
                format!("; next: {hint}")
            };
            info!("server is in phase {name}: {reason}{hint}");
            notify(sd_notify::NotifyState::Status(&format!(
                "{name}: {reason}{hint}"
            )));
        }
        // Waiting for an administrator, or for the system's access point, is a service that has started, too.
        let waits = state.engines().iter().any(|engine| engine.waits_to_join);
        let started = waits || matches!(phase, ServerPhase::Ready | ServerPhase::Maintenance);
        if !told_ready && started {
            told_ready = true;
            notify(sd_notify::NotifyState::Ready);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Tells whoever asks for the health of an engine, as the system's access point does. `known` are the names told before.
async fn report_engines(state: &State, health: &HealthReporter, known: &mut BTreeSet<String>) {
    let mut now = BTreeSet::new();
    for engine in state.engines() {
        let Ok(uuid) = Uuid::try_parse(&engine.uuid) else {
            continue; // not formatted
        };
        let name = health_name(&uuid);
        let status = match engine.state {
            EngineState::Ready => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        };
        health.set_service_status(name.clone(), status).await;
        now.insert(name);
    }
    for gone in known.difference(&now) {
        let mut health = health.clone();
        health.clear_service_status(gone).await;
    }
    *known = now;
}

/// The service whose health depends on engines.
type Managed = MgmtSvcServer<MgmtService>;

/// Tells systemd, where it started this server.
pub(crate) fn notify(what: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[what]) {
        warn!("systemd could not be told: {error}");
    }
}
