//! `server set-logmasks`.

use crate::cli::{Cli, LogmasksArgs};
use crate::connect::ctl_client;
use crate::fanout;
use daos_proto::ctl::SetLogMasksReq;
use serde::Serialize;

/// What became of it on a host.
#[derive(Serialize)]
struct Changed {
    /// A text per engine, empty if it did it.
    errors: Vec<String>,
}

impl Changed {
    fn is_complete(&self) -> bool {
        self.errors.iter().all(String::is_empty)
    }

    fn text(&self) -> String {
        if self.is_complete() {
            return "log masks changed".to_owned();
        }
        let failed = self.errors.iter().filter(|e| !e.is_empty());
        failed.cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Runs the command; `Ok(false)` when an engine did not do it.
pub(crate) async fn run(cli: &Cli, args: &LogmasksArgs, hosts: &[String]) -> anyhow::Result<bool> {
    // As that control plane has it: what is not given goes back to the configuration.
    let request = SetLogMasksReq {
        sys: String::new(),
        reset_masks: args.masks.is_none(),
        reset_streams: args.streams.is_none(),
        reset_subsystems: args.subsystems.is_none(),
        masks: args.masks.clone().unwrap_or_default(),
        streams: args.streams.clone().unwrap_or_default(),
        subsystems: args.subsystems.clone().unwrap_or_default(),
    };
    let answers = fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move {
            let answer = ctl_client(channel).set_engine_log_masks(request).await?;
            Ok(Changed {
                errors: answer.into_inner().errors,
            })
        }
    })
    .await;
    let complete = answers.values().flatten().all(Changed::is_complete);
    Ok(fanout::print(cli, answers, Changed::text)? && complete)
}
