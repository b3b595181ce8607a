//! `system stop`.

use crate::cli::Cli;
use crate::fanout;
use daos_proto::host::{EngineState, StopRequest};
use daos_report::FaultRow;
use serde::Serialize;

/// What became of an engine.
#[derive(Clone, Debug, Serialize)]
struct Stopped {
    engine: u32,
    stopped: bool,
    /// It had to be killed.
    killed: bool,
    fault: Option<FaultRow>,
}

/// Stops the engines of all hosts; `Ok(false)` when one did not stop.
pub(crate) async fn run(cli: &Cli, force: bool, hosts: &[String]) -> anyhow::Result<bool> {
    let answers = fanout::ask(cli, hosts, move |mut client| async move {
        let request = StopRequest {
            force,
            ..StopRequest::default()
        };
        let answer = client.stop(request).await?.into_inner();
        let rows = answer.results.into_iter().map(|result| Stopped {
            engine: result.engine,
            stopped: result.fault.is_none() && result.state() != EngineState::Ready,
            killed: result.killed,
            fault: result.fault.as_ref().map(FaultRow::from),
        });
        Ok(rows.collect::<Vec<_>>())
    })
    .await;
    let stopped = answers.values().flatten().flatten().all(|row| row.stopped);
    Ok(fanout::print(cli, answers, |rows| text(rows))? && stopped)
}

fn text(rows: &[Stopped]) -> String {
    let line = |row: &Stopped| match (&row.fault, row.stopped, row.killed) {
        (Some(fault), _, _) => format!("engine {}: {fault}", row.engine),
        (None, false, _) => format!("engine {}: still runs", row.engine),
        (None, true, true) => format!("engine {}: killed", row.engine),
        (None, true, false) => format!("engine {}: stopped", row.engine),
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
