//! `storage layers list|set|clear`.

use crate::cli::{Cli, LayersArgs, LayersCommand};
use crate::connect::layer_client;
use crate::fanout;
use anyhow::Context;
use daos_proto::host::{LayersResponse, ListLayersRequest, SetLayersRequest};
use daos_report::LayersReport;

/// Runs the command; `Ok(false)` when an engine did not do it.
pub(crate) async fn run(
    cli: &Cli,
    command: &LayersCommand,
    hosts: &[String],
) -> anyhow::Result<bool> {
    let answers = match command {
        LayersCommand::List(LayersArgs { ranks }) => {
            let request = ListLayersRequest {
                ranks: ranks.clone(),
            };
            fanout::ask_on(cli, hosts, move |channel| {
                let request = request.clone();
                async move { report(layer_client(channel).list_layers(request).await?) }
            })
            .await
        }
        LayersCommand::Set(args) => {
            let layers = understood(&args.layers)?;
            set(cli, hosts, args.which.ranks.clone(), layers).await
        }
        LayersCommand::Clear(LayersArgs { ranks }) => {
            set(cli, hosts, ranks.clone(), "[]".to_owned()).await
        }
    };
    let complete = answers.values().flatten().all(LayersReport::is_complete);
    Ok(fanout::print(cli, answers, LayersReport::text)? && complete)
}

async fn set(
    cli: &Cli,
    hosts: &[String],
    ranks: Vec<u32>,
    layers: String,
) -> fanout::Answers<LayersReport> {
    let request = SetLayersRequest { ranks, layers };
    fanout::ask_on(cli, hosts, move |channel| {
        let request = request.clone();
        async move { report(layer_client(channel).set_layers(request).await?) }
    })
    .await
}

fn report(answer: tonic::Response<LayersResponse>) -> Result<LayersReport, tonic::Status> {
    Ok(LayersReport::from(answer.into_inner()))
}

/// The layers as JSON, checked before any host is asked.
fn understood(text: &str) -> anyhow::Result<String> {
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the layers from {file}"))?,
        None => text.to_owned(),
    };
    let value: serde_json::Value =
        serde_yaml::from_str(&text).context("the layers are neither YAML nor JSON")?;
    let json = value.to_string();
    daos_layers::parse(&json)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::understood;

    #[test]
    fn yaml_and_json_are_understood_and_mistakes_told() {
        let yaml = "[{fault: {rules: [{do: flip, op: [read]}]}}, {stats: }]";
        let json = understood(yaml).unwrap();
        assert_eq!(understood(&json).unwrap(), json);
        for (wrong, word) in [
            ("[{fautl: {}}]", "fautl"),
            ("[{", "neither"),
            ("@/nonexistent", "/nonexistent"),
            ("stats", "list"),
        ] {
            let error = format!("{:#}", understood(wrong).unwrap_err());
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
