//! `storage scan`: asks every plugin what it sees, and running engines what they hold.

mod engines;
mod health;

use crate::cli::Cli;
use crate::plugins::Plugins;
use crate::state::State;
use daos_config::{Config, Overrides};
use daos_plugin_api::abi::Status as PluginStatus;
use daos_plugin_api::control::{ClassKind, DeviceRecord};
use daos_proto::host::{
    Detail, Device, DeviceUse, EngineDevice, Kind, PluginFault, PluginNote,
    StorageScanDetailRequest, StorageScanDetailResponse,
};
use daos_report::{Envelope, ScanReport, StorageScanArgs, print_json};

/// What running engines tell of the devices that they hold.
pub(crate) async fn of_engines(state: &State, request: &StorageScanDetailRequest) -> Vec<Device> {
    let mut response = StorageScanDetailResponse::default();
    engines::ask(state, request, &mut response).await;
    response.devices
}

/// A device as a running engine tells it.
pub(crate) fn held(device: EngineDevice) -> Device {
    engines::alone(device)
}

/// Scans for a request; plugins that fail are named, the others' devices are there. With the state of a server, its
/// engines are asked for what they hold, which nobody else may open.
pub(crate) async fn scan(
    plugins: &Plugins,
    state: Option<&State>,
    request: &StorageScanDetailRequest,
) -> StorageScanDetailResponse {
    let mut response = StorageScanDetailResponse {
        time_ms: crate::state::now_ms(),
        ..StorageScanDetailResponse::default()
    };
    let wanted = |kind: ClassKind| {
        let kinds: Vec<Kind> = request.kinds().collect();
        kinds.is_empty() || kinds.contains(&kind_message(kind))
    };
    for plugin in plugins.usable() {
        let named = request.plugins.is_empty() || request.plugins.contains(&plugin.manifest.name);
        if !named || !plugin.manifest.classes.iter().any(|c| wanted(c.kind)) {
            continue;
        }
        match plugins.scan(&plugin).await {
            Ok(report) => {
                for note in report.notes {
                    remark(&mut response.notes, plugin.name(), note);
                }
                let devices = report.devices.into_iter().filter(|d| wanted(d.kind));
                response
                    .devices
                    .extend(devices.map(|d| device(plugin.name(), d)));
            }
            // A class without anything to discover is no failure of the scan.
            Err((PluginStatus::NOT_SUPPORTED, _)) => {}
            Err((_, fault)) => response.faults.push(PluginFault {
                plugin: plugin.name().to_owned(),
                fault: Some(*fault),
            }),
        }
    }
    match plugins.state_dir().leases() {
        Ok(leases) => response.devices.iter_mut().for_each(|d| {
            if let Some(lease) = leases.devices.get(&format!("{}:{}", d.class, d.address)) {
                d.r#use = DeviceUse::Busy.into();
                d.use_reason = lease.holder();
            }
        }),
        Err(error) => tracing::warn!("who has which device is not known: {error}"),
    }
    if let Some(state) = state.filter(|_| wanted(ClassKind::Bdev)) {
        engines::ask(state, request, &mut response).await;
    }
    if request.health {
        health::ask(plugins, &mut response).await;
    }
    response
        .devices
        .sort_by(|a, b| (a.kind, &a.class, &a.address).cmp(&(b.kind, &b.class, &b.address)));
    response
}

/// Adds what a plugin remarks, once.
fn remark(notes: &mut Vec<PluginNote>, plugin: &str, text: String) {
    let note = PluginNote {
        plugin: plugin.to_owned(),
        text,
    };
    if !notes.contains(&note) {
        notes.push(note);
    }
}

pub(crate) fn kind_message(kind: ClassKind) -> Kind {
    match kind {
        ClassKind::Scm => Kind::Scm,
        ClassKind::Bdev => Kind::Bdev,
        ClassKind::Fabric => Kind::Fabric,
    }
}

fn device(plugin: &str, record: DeviceRecord) -> Device {
    Device {
        kind: kind_message(record.kind).into(),
        class: record.class,
        plugin: plugin.to_owned(),
        address: record.address,
        model: record.model,
        serial: record.serial,
        firmware: record.firmware,
        size_bytes: record.size,
        block_size: record.block_size,
        numa_node: (record.numa_node >= 0).then_some(record.numa_node),
        r#use: match &record.in_use {
            Some(_) => DeviceUse::Busy.into(),
            None => DeviceUse::Free.into(),
        },
        use_reason: record.in_use.unwrap_or_default(),
        details: record
            .details
            .into_iter()
            .map(|(key, value)| Detail {
                key,
                value: match value {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                },
            })
            .collect(),
        ..Device::default()
    }
}

/// `daos_server storage scan`: with the configuration's plugins if there is one that can be read,
/// with the defaults otherwise.
pub(crate) fn run(cli: &Cli, args: &StorageScanArgs) -> anyhow::Result<bool> {
    let exe = std::env::current_exe()?;
    let overrides = cli
        .start
        .overrides(&crate::cli::StartArgs::default(), &cli.globals);
    let config = config_or_default(cli, &overrides, &exe);
    let plugins = Plugins::open(&config, &exe)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        let request = StorageScanDetailRequest {
            health: args.health,
            ..StorageScanDetailRequest::default()
        };
        let response = scan(&plugins, None, &request).await;
        plugins.rest().await;
        ScanReport::from(response)
    });
    let complete = report.faults.is_empty();
    if cli.globals.json {
        print_json(&match report.faults.first_key_value() {
            None => Envelope::ok(report),
            Some((plugin, fault)) => {
                let error = format!(
                    "plugin {plugin} could not be asked: {}: {}",
                    fault.what, fault.cause
                );
                Envelope::failed(Some(report), error)
            }
        })?;
    } else {
        daos_report::print_line!("{}", report.text_with(args.verbose));
    }
    Ok(complete)
}

/// A scan is what one fills a configuration from, so it must not need a good one. A file that was
/// named is still worth a remark when it cannot be used.
pub(crate) fn config_or_default(cli: &Cli, overrides: &Overrides, exe: &std::path::Path) -> Config {
    let loaded = daos_config::locate(cli.globals.config.as_deref(), exe)
        .and_then(|path| Config::load(&path, overrides));
    match loaded {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            if cli.globals.config.is_some() {
                eprintln!("the configuration is not used: {errors}");
            }
            let mut config = Config::default();
            config.plugins_dir.clone_from(&overrides.plugins_dir);
            config.state_dir.clone_from(&overrides.state_dir);
            config
        }
    }
}
