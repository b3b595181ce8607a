//! Metrics for Prometheus on `telemetry_port`, made anew for each reader.
//!
//! How many there are is bounded by what is configured: engines, plugins with what each may register, methods, devices, and
//! of a layer of statistics six operations in six size classes.

mod grpc;
mod page;

pub(crate) use grpc::{Calls, count};

use crate::plugins::Plugins;
use crate::state::State;
use crate::transport;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use daos_drpc::Client;
use daos_drpc::methods::{host, module};
use daos_proto::host::{EngineMetrics, EngineState};
use daos_telemetry::{Histogram, Sample};
use page::Page;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tracing::{debug, info, warn};

/// What readers are answered with, OpenMetrics 1.0.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long an engine may take to tell; Prometheus itself waits ten seconds.
const ENGINE_WITHIN: Duration = Duration::from_secs(3);

/// Serves the metrics if the configuration has a port for them. One that is taken is told and keeps nothing
/// from starting.
pub(crate) async fn serve(state: Arc<State>, plugins: Arc<Plugins>, calls: Calls) {
    let Some(port) = state.config.telemetry_port else {
        return;
    };
    // Whoever reaches it may read it: not from other hosts, unless an interface was chosen for what is said to them.
    let ip = match transport::chosen(&state.config) {
        Ok(ip) => ip.unwrap_or(Ipv4Addr::LOCALHOST),
        Err(error) => return warn!("no metrics: {error}"),
    };
    let address = SocketAddr::from((ip, port));
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            warn!("no metrics: cannot listen on {address}: {error}; choose another telemetry_port");
            return;
        }
    };
    info!("metrics at http://{address}/metrics");
    let answer = move || {
        let (state, plugins, calls) = (Arc::clone(&state), Arc::clone(&plugins), calls.clone());
        async move { ([(CONTENT_TYPE, TEXT)], text(&state, &plugins, &calls).await) }
    };
    if let Err(error) = axum::serve(listener, Router::new().route("/metrics", get(answer))).await {
        warn!("metrics are no longer served: {error}");
    }
}

async fn text(state: &State, plugins: &Plugins, calls: &Calls) -> String {
    let mut page = Page::default();
    engines(&mut page, state);
    helpers(&mut page, plugins);
    calls.put(&mut page);
    for (plugin, samples) in plugins.helper_metrics() {
        for sample in samples {
            let labels = vec![("process", "helper".to_owned())];
            page.sample(&plugin, labels, sample);
        }
    }
    // Side by side: one that does not answer must not cost the others' figures.
    let (told, measured) = tokio::join!(engine_metrics(state), layers(state));
    for (engine, metrics) in told {
        for told in metrics.plugins {
            let samples: Vec<Sample> = serde_json::from_str(&told.metrics).unwrap_or_default();
            for sample in samples.into_iter().take(daos_telemetry::LIMIT) {
                let process = format!("engine {engine}");
                page.sample(&told.plugin, vec![("process", process)], sample);
            }
        }
    }
    for row in measured {
        page.counter(
            "bdev_request_failures",
            "Requests of the block device that failed",
            row.labels.clone(),
            row.failed as f64,
        );
        let help = "Time of its requests, from submission to the poll that sees the completion";
        page.seconds("bdev_request", help, row.labels, row.times);
    }
    page.text()
}

fn engines(page: &mut Page, state: &State) {
    for (index, engine) in state.engines().into_iter().enumerate() {
        let labels = || vec![("engine", index.to_string())];
        let flag = |yes: bool| f64::from(u8::from(yes));
        let ready = flag(engine.state == EngineState::Ready);
        page.gauge("engine_ready", "1 while the engine serves", labels(), ready);
        page.counter(
            "engine_restarts",
            "Restarts since the server started",
            labels(),
            f64::from(engine.restarts),
        );
        if let Some(files) = &engine.open_files {
            let help = "Open files of its process";
            page.gauge("engine_open_files", help, labels(), files.all as f64);
            let help = "Open files that its process may have, 0 for any number";
            page.gauge(
                "engine_open_files_limit",
                help,
                labels(),
                files.limit as f64,
            );
        }
        page.gauge(
            "engine_faults_injected",
            "1 while a layer injects faults",
            labels(),
            flag(engine.layers.iter().any(|layer| layer == "fault")),
        );
        let name = engine
            .state
            .as_str_name()
            .trim_start_matches("ENGINE_STATE_");
        let mut named = labels();
        named.push(("state", name.to_lowercase()));
        let help = "1 for the state that the engine is in";
        page.gauge("engine_state", help, named, 1.0);
    }
}

fn helpers(page: &mut Page, plugins: &Plugins) {
    for (plugin, counts) in plugins.helper_counts() {
        for (name, help, value) in [
            ("plugin_calls", "Control calls of the plugin", counts.calls),
            (
                "plugin_call_failures",
                "Control calls that failed",
                counts.failures,
            ),
            (
                "plugin_helper_starts",
                "Helper processes started",
                counts.starts,
            ),
            (
                "plugin_helper_deaths",
                "Helper processes that died or were late",
                counts.deaths,
            ),
            (
                "plugin_helper_recycled",
                "Helper processes that had grown",
                counts.recycled,
            ),
        ] {
            page.counter(name, help, vec![("plugin", plugin.clone())], value as f64);
        }
        for (operation, times) in counts.times {
            let labels = vec![
                ("plugin", plugin.clone()),
                ("operation", operation.to_owned()),
            ];
            let help = "Time of control calls, with the start of a helper that they needed";
            page.seconds("plugin_call", help, labels, times);
        }
    }
}

/// What the plugins of engines that serve tell of themselves. Of an engine that is not ours, nothing.
pub(crate) async fn engine_metrics(state: &State) -> Vec<(usize, EngineMetrics)> {
    let mut told = Vec::new();
    for (index, engine) in state.engines().into_iter().enumerate() {
        if engine.state != EngineState::Ready || state.config.engine_path.is_some() {
            continue;
        }
        let socket = std::path::PathBuf::from(engine.drpc_socket);
        let answer = async {
            let mut client = Client::connect(&socket, ENGINE_WITHIN).await?;
            client
                .request(module::HOST, host::METRICS, &(), ENGINE_WITHIN)
                .await
        };
        let answer: Result<EngineMetrics, daos_drpc::Error> = answer.await;
        match answer {
            Ok(metrics) => told.push((index, metrics)),
            Err(error) => debug!(engine = index, "no metrics: {error}"),
        }
    }
    told
}

/// What a layer of statistics has measured of one operation and size class.
struct Measured {
    labels: page::Labels,
    failed: u64,
    times: Histogram,
}

/// What layers of statistics have measured.
async fn layers(state: &State) -> Vec<Measured> {
    let mut rows = Vec::new();
    // Without an engine that serves there is nothing to ask.
    let engines = crate::layers::list(state, &[], ENGINE_WITHIN).await;
    for engine in engines.unwrap_or_default() {
        for device in engine.devices {
            let layers: Vec<daos_layers::LayerState> =
                serde_json::from_str(&device.layers).unwrap_or_default();
            // Several layers of statistics share their figures.
            let Some(measured) = layers.into_iter().find(|l| !l.stats.is_empty()) else {
                continue;
            };
            for row in measured.stats {
                rows.push(Measured {
                    labels: vec![
                        ("engine", engine.engine.to_string()),
                        ("device", device.number.to_string()),
                        ("op", row.op.clone()),
                        ("size", row.size.clone()),
                    ],
                    failed: row.failed,
                    times: times(&row),
                });
            }
        }
    }
    rows
}

/// The times of a row in classes of seconds.
fn times(row: &daos_layers::Row) -> Histogram {
    let mut times = Histogram::new(row.buckets.iter().map(|(us, _)| us / 1e6).collect());
    let mut before = 0;
    for (class, (_, within)) in row.buckets.iter().enumerate() {
        times.counts[class] = within.saturating_sub(before);
        before = before.max(*within);
    }
    times.counts[row.buckets.len()] = row.count.saturating_sub(before);
    times.sum = row.sum_us / 1e6;
    times
}
