//! `system start`.

use crate::cli::Cli;
use crate::fanout;
use daos_proto::host::{EngineState, StartRequest};
use daos_report::FaultRow;
use serde::Serialize;

/// What became of an engine.
#[derive(Clone, Debug, Serialize)]
struct Started {
    engine: u32,
    /// It serves.
    ready: bool,
    /// Its process; 0 if none runs.
    pid: u32,
    fault: Option<FaultRow>,
}

/// Starts the engines of all hosts that do not run; `Ok(false)` when one does not serve.
pub(crate) async fn run(cli: &Cli, hosts: &[String]) -> anyhow::Result<bool> {
    let answers = fanout::ask(cli, hosts, |mut client| async move {
        let answer = client.start(StartRequest::default()).await?.into_inner();
        let rows = answer.results.into_iter().map(|result| Started {
            engine: result.engine,
            ready: result.state() == EngineState::Ready,
            pid: result.pid,
            fault: result.fault.as_ref().map(FaultRow::from),
        });
        Ok(rows.collect::<Vec<_>>())
    })
    .await;
    let ready = answers.values().flatten().flatten().all(|row| row.ready);
    Ok(fanout::print(cli, answers, |rows| text(rows))? && ready)
}

fn text(rows: &[Started]) -> String {
    let line = |row: &Started| match &row.fault {
        None => format!("engine {}: serves, process {}", row.engine, row.pid),
        Some(fault) => format!("engine {}: {fault}", row.engine),
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
