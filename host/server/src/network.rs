//! `network scan`: which providers work on which network interfaces.

use crate::cli::Cli;
use crate::plugins::Plugins;
use crate::scan::config_or_default;
use daos_config::Config;
use daos_plugin_api::abi::Status as PluginStatus;
use daos_plugin_api::control::{ClassKind, DeviceRecord};
use daos_proto::host::{
    FabricProvider, NetworkInterface, NetworkScanRequest, NetworkScanResponse, PluginFault,
};
use daos_report::{Envelope, NetworkReport, NetworkScanArgs, print_json};
use daos_topology::is_of;
use serde_json::Value;
use std::collections::BTreeSet;

/// Names every provider.
const ALL: &str = "all";

/// Scans for a request; plugins that fail are named, the others' interfaces are there.
pub(crate) async fn scan(
    plugins: &Plugins,
    config: &Config,
    request: &NetworkScanRequest,
) -> NetworkScanResponse {
    let wanted = wanted(config, &request.provider);
    let mut response = NetworkScanResponse::default();
    for plugin in plugins.usable() {
        let mut classes = plugin.manifest.classes.iter();
        if !classes.any(|class| class.kind == ClassKind::Fabric) {
            continue;
        }
        let report = match plugins.scan(&plugin).await {
            Ok(report) => report,
            Err((PluginStatus::NOT_SUPPORTED, _)) => continue,
            Err((_, fault)) => {
                response.faults.push(PluginFault {
                    plugin: plugin.name().to_owned(),
                    fault: Some(*fault),
                });
                continue;
            }
        };
        let providers = report.providers.into_iter().map(|provider| FabricProvider {
            name: provider.name,
            plugin: plugin.name().to_owned(),
            version: provider.version,
            unusable: provider.unusable.unwrap_or_default(),
        });
        response.providers.extend(providers);
        let devices = report.devices.into_iter();
        let interfaces = devices
            .filter(|device| device.kind == ClassKind::Fabric)
            .filter(|device| {
                wanted.is_empty() || wanted.iter().any(|name| is_of(&device.class, name))
            })
            .map(|device| interface(plugin.name(), device));
        response.interfaces.extend(interfaces);
    }
    response
        .interfaces
        .sort_by(|a, b| (&a.provider, a.priority).cmp(&(&b.provider, b.priority)));
    response
        .providers
        .sort_by(|a, b| (&a.name, &a.plugin).cmp(&(&b.name, &b.plugin)));
    response.wanted = wanted.into_iter().collect();
    response
}

/// The providers to show; none = all.
fn wanted(config: &Config, requested: &str) -> BTreeSet<String> {
    match requested {
        ALL => BTreeSet::new(),
        "" => config
            .servers
            .iter()
            .filter_map(|server| server.provider.clone())
            .chain(config.provider.clone())
            .collect(),
        name => [name.to_owned()].into(),
    }
}

fn interface(plugin: &str, record: DeviceRecord) -> NetworkInterface {
    let text = |key: &str| {
        let value = record.details.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let number = |key: &str| record.details.get(key).and_then(Value::as_u64).unwrap_or(0);
    NetworkInterface {
        domain: text("domain"),
        link: text("link"),
        speed_mbps: number("speed_mbps"),
        priority: u32::try_from(number("priority")).unwrap_or(u32::MAX),
        numa_node: (record.numa_node >= 0).then_some(record.numa_node),
        provider: record.class,
        plugin: plugin.to_owned(),
        interface: record.address,
    }
}

/// `daos_server network scan`: with the configuration's plugins and provider if there is one that can be
/// read, with the defaults and all providers otherwise.
pub(crate) fn run(cli: &Cli, args: &NetworkScanArgs) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let overrides = cli
        .start
        .overrides(&crate::cli::StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let plugins = Plugins::open(&config, &exe)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let request = NetworkScanRequest {
        provider: args.provider.clone().unwrap_or_default(),
    };
    let report = runtime.block_on(async {
        let response = scan(&plugins, &config, &request).await;
        plugins.rest().await;
        NetworkReport::from(response)
    });
    let complete = match args.providers {
        true => report.faults.is_empty(),
        false => report.is_complete(),
    };
    let text = match args.providers {
        true => report.providers_text(),
        false => report.text(),
    };
    if cli.globals.json {
        print_json(&match complete {
            true => Envelope::ok(report),
            false => Envelope::failed(Some(report), text),
        })?;
    } else {
        daos_report::print_line!("{text}");
    }
    Ok(complete)
}
