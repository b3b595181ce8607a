//! Metrics for Prometheus on `telemetry_port`, made anew for each reader.
//!
//! How many there are is bounded by what is configured: engines, plugins, devices, and of a layer of statistics six
//! operations in six size classes.

use crate::plugins::Plugins;
use crate::state::State;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use daos_proto::host::EngineState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::net::TcpListener;
use tracing::{info, warn};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter<f64, AtomicU64>>;

/// What readers are answered with, OpenMetrics 1.0.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the metrics if the configuration has a port for them. One that is taken is told and keeps nothing
/// from starting.
pub(crate) async fn serve(state: Arc<State>, plugins: Arc<Plugins>) {
    let Some(port) = state.config.telemetry_port else {
        return;
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            warn!("no metrics: cannot listen on {address}: {error}; choose another telemetry_port");
            return;
        }
    };
    info!("metrics at http://{address}/metrics");
    let answer = move || {
        let (state, plugins) = (Arc::clone(&state), Arc::clone(&plugins));
        async move { ([(CONTENT_TYPE, TEXT)], text(&state, &plugins).await) }
    };
    if let Err(error) = axum::serve(listener, Router::new().route("/metrics", get(answer))).await {
        warn!("metrics are no longer served: {error}");
    }
}

/// One family of counters, registered when it is made.
fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

async fn text(state: &State, plugins: &Plugins) -> String {
    let mut registry = Registry::with_prefix("daos");
    engines(&mut registry, state);
    helpers(&mut registry, plugins);
    layers(&mut registry, state).await;
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

fn engines(registry: &mut Registry, state: &State) {
    let ready = gauges(registry, "engine_ready", "1 while the engine serves");
    let states = gauges(
        registry,
        "engine_state",
        "1 for the state that the engine is in",
    );
    let restarts = counters(
        registry,
        "engine_restarts",
        "Restarts since the server started",
    );
    let faulty = gauges(
        registry,
        "engine_faults_injected",
        "1 while a layer injects faults",
    );
    for (index, engine) in state.engines().into_iter().enumerate() {
        let labels = vec![("engine", index.to_string())];
        let is_ready = engine.state == EngineState::Ready;
        ready
            .get_or_create(&labels)
            .set(f64::from(u8::from(is_ready)));
        restarts
            .get_or_create(&labels)
            .inc_by(f64::from(engine.restarts));
        let injected = engine.layers.iter().any(|layer| layer == "fault");
        faulty
            .get_or_create(&labels)
            .set(f64::from(u8::from(injected)));
        let name = engine
            .state
            .as_str_name()
            .trim_start_matches("ENGINE_STATE_");
        let named = vec![
            ("engine", index.to_string()),
            ("state", name.to_lowercase()),
        ];
        states.get_or_create(&named).set(1.0);
    }
}

fn helpers(registry: &mut Registry, plugins: &Plugins) {
    let calls = counters(registry, "plugin_calls", "Control calls of the plugin");
    let failures = counters(
        registry,
        "plugin_call_failures",
        "Control calls that failed",
    );
    let time = counters(registry, "plugin_call_seconds", "Time of its control calls");
    let starts = counters(registry, "plugin_helper_starts", "Helper processes started");
    let deaths = counters(
        registry,
        "plugin_helper_deaths",
        "Helper processes that died or were late",
    );
    let recycled = counters(
        registry,
        "plugin_helper_recycled",
        "Helper processes that had grown",
    );
    for (plugin, counts) in plugins.helper_counts() {
        let labels = vec![("plugin", plugin)];
        for (family, value) in [
            (&calls, counts.calls as f64),
            (&failures, counts.failures as f64),
            (&time, counts.time.as_secs_f64()),
            (&starts, counts.starts as f64),
            (&deaths, counts.deaths as f64),
            (&recycled, counts.recycled as f64),
        ] {
            family.get_or_create(&labels).inc_by(value);
        }
    }
}

/// What layers of statistics have measured.
async fn layers(registry: &mut Registry, state: &State) {
    let requests = counters(registry, "bdev_requests", "Requests of the block device");
    let failed = counters(registry, "bdev_request_failures", "Requests that failed");
    let time = counters(registry, "bdev_request_seconds", "Time of its requests");
    let within = counters(
        registry,
        "bdev_requests_within",
        "Requests that took at most `le` seconds",
    );
    // Without an engine that serves there is nothing to ask.
    let engines = crate::layers::list(state, &[]).await.unwrap_or_default();
    for engine in engines {
        for device in engine.devices {
            let layers: Vec<daos_layers::LayerState> =
                serde_json::from_str(&device.layers).unwrap_or_default();
            // Several layers of statistics share their figures.
            let Some(measured) = layers.into_iter().find(|l| !l.stats.is_empty()) else {
                continue;
            };
            for row in measured.stats {
                let labels = vec![
                    ("engine", engine.engine.to_string()),
                    ("device", device.number.to_string()),
                    ("op", row.op.clone()),
                    ("size", row.size.clone()),
                ];
                requests.get_or_create(&labels).inc_by(row.count as f64);
                failed.get_or_create(&labels).inc_by(row.failed as f64);
                time.get_or_create(&labels).inc_by(row.sum_us / 1e6);
                for (us, count) in row.buckets {
                    let mut labels = labels.clone();
                    labels.push(("le", (us / 1e6).to_string()));
                    within.get_or_create(&labels).inc_by(count as f64);
                }
            }
        }
    }
}
