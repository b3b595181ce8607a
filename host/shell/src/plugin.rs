//! `plugin inspect` and `plugin reset`.

use crate::cli::Cli;
use crate::connect::plugin_client;
use crate::fanout;
use daos_proto::host::{PluginInspectRequest, PluginResetRequest};
use daos_report::{PluginDetail, PluginRow};
use serde::Serialize;

/// `plugin inspect NAME`.
pub(crate) async fn inspect(cli: &Cli, name: &str, hosts: &[String]) -> anyhow::Result<bool> {
    let request = PluginInspectRequest {
        name: name.to_owned(),
    };
    let answers = fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move {
            let answer = plugin_client(channel).inspect(request).await?;
            Ok(PluginDetail::from(answer.into_inner()))
        }
    })
    .await;
    fanout::print(cli, answers, PluginDetail::text)
}

/// What became of a plugin in quarantine.
#[derive(Serialize)]
struct Reset {
    name: String,
    /// Files that were in quarantine.
    files: u32,
    plugin: Option<PluginRow>,
}

impl Reset {
    /// Whether the plugin can be used now.
    fn is_well(&self) -> bool {
        self.plugin.as_ref().is_some_and(|p| p.fault.is_none())
    }

    fn text(&self) -> String {
        let name = &self.name;
        let done = match self.files {
            0 => format!("no file of plugin {name} is in quarantine"),
            files => format!("plugin {name} is out of quarantine ({files} file(s))"),
        };
        match self.plugin.as_ref().and_then(|p| p.fault.as_ref()) {
            Some(fault) => format!("{done}, and is not used: {fault}"),
            None => done,
        }
    }
}

/// `plugin reset NAME`; `Ok(false)` when it cannot be used afterwards.
pub(crate) async fn reset(cli: &Cli, name: &str, hosts: &[String]) -> anyhow::Result<bool> {
    let request = PluginResetRequest {
        name: name.to_owned(),
    };
    let answers = fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move {
            let name = request.name.clone();
            let answer = plugin_client(channel).reset(request).await?.into_inner();
            Ok(Reset {
                name,
                files: answer.files,
                plugin: answer.plugin.map(PluginRow::from),
            })
        }
    })
    .await;
    let well = answers.values().flatten().all(Reset::is_well);
    Ok(fanout::print(cli, answers, Reset::text)? && well)
}
