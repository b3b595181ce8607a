//! The SCM half of `StorageScan`: memory modules, namespaces, and how full what engines have mounted is.

use super::scan::detail;
use crate::plugins::Plugins;
use crate::pools::{Member, Pools};
use crate::scan;
use crate::state::{EngineStatus, State};
use daos_config::ServerConfig;
use daos_plugin_api::control::ClassKind;
use daos_proto::NO_RANK;
use daos_proto::ctl::scm_namespace::Mount;
use daos_proto::ctl::{ResponseState, ResponseStatus, ScanScmResp, ScmModule, ScmNamespace};
use daos_proto::host::{Device, EngineSpace, Kind, StorageScanDetailRequest};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};

/// Class of SCM that is memory of the host: there is no device to find.
const RAM: &str = "ram";
/// How that protocol names it.
const RAMDISK: &str = "ramdisk";

/// Namespaces or, where there are none, modules; with `usage` also what engines have mounted.
pub(super) async fn half(
    state: &State,
    plugins: &Plugins,
    pools: &Pools,
    usage: bool,
) -> ScanScmResp {
    let mut half = found(plugins).await;
    if usage {
        add_usage(state, pools, &mut half).await;
    }
    half
}

/// Adds what engines have mounted, and what of it is left for pools.
async fn add_usage(state: &State, pools: &Pools, half: &mut ScanScmResp) {
    let (spaces, silent) = spaces(pools).await;
    let mounted = state.config.servers.iter().map(|s| s.scm_mount.clone());
    let mounted = file_systems(mounted.collect()).await;
    let servers = state.config.servers.iter();
    let mut failures: Vec<String> = silent.into_iter().collect();
    for (((index, config), engine), file_system) in
        (0..).zip(servers).zip(state.engines()).zip(mounted)
    {
        let space = spaces.iter().find(|space| space.engine == index);
        match file_system {
            Ok(Some(room)) => {
                let mount = mount(config, &engine, room, space);
                attach(config, mount, &mut half.namespaces);
            }
            Ok(None) => {}
            Err(why) => failures.push(why),
        }
    }
    // There is room for one: what a plugin has said of the devices themselves stays.
    let state = half.state.get_or_insert_default();
    if state.status() == ResponseStatus::CtlSuccess
        && let Some(why) = failures.into_iter().next()
    {
        *state = failed(why);
    }
}

fn failed(error: String) -> ResponseState {
    ResponseState {
        status: ResponseStatus::CtlErrScm.into(),
        error,
        info: String::new(),
    }
}

/// What scans find.
async fn found(plugins: &Plugins) -> ScanScmResp {
    let usable = plugins.usable().into_iter();
    let finds = usable.filter(|plugin| {
        let mut classes = plugin.manifest.classes.iter();
        classes.any(|class| class.kind == ClassKind::Scm && class.name != RAM)
    });
    let request = StorageScanDetailRequest {
        kinds: vec![Kind::Scm.into()],
        plugins: finds.map(|plugin| plugin.manifest.name.clone()).collect(),
        ..StorageScanDetailRequest::default()
    };
    let mut half = ScanScmResp {
        state: Some(ResponseState::default()),
        ..ScanScmResp::default()
    };
    // No names stand for all of them.
    if request.plugins.is_empty() {
        return half;
    }
    let told = scan::scan(plugins, None, &request).await;
    if let Some(fault) = told.faults.into_iter().next() {
        let what = fault.fault.unwrap_or_default();
        half.state = Some(failed(format!("plugin {}: {what}", fault.plugin)));
    }
    let (modules, namespaces): (Vec<Device>, Vec<Device>) = told
        .devices
        .iter()
        .filter(|device| device.class != RAM)
        .cloned()
        .partition(|device| detail(device, "what") == "module");
    half.namespaces = namespaces.iter().map(namespace).collect();
    if half.namespaces.is_empty() {
        half.modules = modules.iter().map(module).collect();
    }
    half
}

fn module(device: &Device) -> ScmModule {
    let number = |key| detail(device, key).parse().unwrap_or(0);
    ScmModule {
        channelid: number("channel"),
        channelposition: number("channel_position"),
        controllerid: number("memory_controller"),
        socketid: number("socket"),
        physicalid: number("physical_id"),
        capacity: device.size_bytes,
        uid: device.serial.clone(),
        part_number: device.model.clone(),
        firmware_revision: device.firmware.clone(),
        health_state: detail(device, "health").to_owned(),
    }
}

fn namespace(device: &Device) -> ScmNamespace {
    ScmNamespace {
        uuid: detail(device, "uuid").to_owned(),
        blockdev: block_device(&device.address).to_owned(),
        dev: detail(device, "namespace").to_owned(),
        numa_node: device.numa_node.map_or(0, i32::unsigned_abs),
        size: device.size_bytes,
        mount: None,
    }
}

/// A device as that protocol names it, without its directory.
fn block_device(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What this server's engines that serve have for pools, and why there may be more.
async fn spaces(pools: &Pools) -> (Vec<EngineSpace>, Option<String>) {
    let members = pools.local_members(|_| true);
    let answers = join_all(members.iter().map(Member::pools)).await;
    let (mut all, mut silent) = (Vec::new(), None);
    for (member, answer) in members.iter().zip(answers) {
        match answer {
            Ok(told) => all.push(EngineSpace {
                engine: member.index,
                ..told.space.unwrap_or_default()
            }),
            Err(status) => silent = silent.or_else(|| Some(status.message().to_owned())),
        }
    }
    (all, silent)
}

/// How full the file system of an engine is. Usable is what no pool has; free is at least as much: an engine may have taken
/// the space for its pools already.
fn mount(
    config: &ServerConfig,
    engine: &EngineStatus,
    (total_bytes, free): (u64, u64),
    space: Option<&EngineSpace>,
) -> Mount {
    let usable_bytes = space.map_or(0, |space| space.scm_free);
    Mount {
        path: config.scm_mount.display().to_string(),
        total_bytes,
        avail_bytes: free.max(usable_bytes).min(total_bytes),
        device_list: config.scm_list.clone(),
        class: config.scm_class.clone(),
        rank: engine.rank.unwrap_or(NO_RANK),
        usable_bytes,
    }
}

/// Size and free bytes of the file systems at these paths; none where no engine's superblock is: it is somebody else's place,
/// or nothing is mounted there.
async fn file_systems(paths: Vec<PathBuf>) -> Vec<Result<Option<(u64, u64)>, String>> {
    // A file system that hangs must not hold up who else is served.
    let asking = paths.into_iter().map(|path| {
        tokio::task::spawn_blocking(move || {
            let is_ours = path.join("superblock").exists();
            is_ours.then(|| file_system(&path)).transpose()
        })
    });
    let answers = join_all(asking).await.into_iter();
    answers
        .map(|answer| {
            answer.unwrap_or_else(|error| Err(format!("a defect of the server: {error}")))
        })
        .collect()
}

/// Size and free bytes of the file system at a path.
fn file_system(path: &Path) -> Result<(u64, u64), String> {
    let told = nix::sys::statvfs::statvfs(path)
        .map_err(|error| format!("{} cannot be asked how full it is: {error}", path.display()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.fragment_size());
    Ok((bytes(told.blocks()), bytes(told.blocks_available())))
}

/// Puts a mount below its namespace. Memory of the host has none, and gets one that is made up.
fn attach(config: &ServerConfig, mount: Mount, namespaces: &mut Vec<ScmNamespace>) {
    let name = match config.scm_list.first() {
        Some(device) if config.scm_class != RAM => block_device(device),
        _ => RAMDISK,
    };
    let known = namespaces
        .iter_mut()
        .find(|n| n.blockdev == name && n.mount.is_none() && name != RAMDISK);
    match known {
        Some(namespace) => namespace.mount = Some(mount),
        None => namespaces.push(ScmNamespace {
            blockdev: name.to_owned(),
            size: mount.total_bytes,
            mount: Some(mount),
            ..ScmNamespace::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daos_proto::host::{Detail, EngineState};
    use std::sync::Arc;

    fn device(address: &str, details: &[(&str, &str)]) -> Device {
        let detail = |(key, value): &(&str, &str)| Detail {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        Device {
            class: "dcpm".to_owned(),
            address: address.to_owned(),
            model: "PART".to_owned(),
            serial: "uid".to_owned(),
            firmware: "1.2".to_owned(),
            size_bytes: 1 << 40,
            numa_node: Some(1),
            details: details.iter().map(detail).collect(),
            ..Device::default()
        }
    }

    #[test]
    fn modules_and_namespaces_have_their_fields() {
        let told = module(&device(
            "nmem3",
            &[
                ("what", "module"),
                ("channel", "2"),
                ("channel_position", "1"),
                ("memory_controller", "3"),
                ("socket", "1"),
                ("physical_id", "38"),
                ("health", "ok"),
            ],
        ));
        let place = (
            told.channelid,
            told.channelposition,
            told.controllerid,
            told.socketid,
        );
        assert_eq!(place, (2, 1, 3, 1));
        assert_eq!((told.physicalid, told.capacity), (38, 1 << 40));
        let texts = [
            told.uid,
            told.part_number,
            told.firmware_revision,
            told.health_state,
        ];
        assert_eq!(texts, ["uid", "PART", "1.2", "ok"]);

        let details = [
            ("what", "namespace"),
            ("namespace", "namespace1.0"),
            ("uuid", "u"),
        ];
        let told = namespace(&device("/dev/pmem1", &details));
        assert_eq!((&*told.blockdev, &*told.dev), ("pmem1", "namespace1.0"));
        assert_eq!((&*told.uuid, told.numa_node, told.size), ("u", 1, 1 << 40));
        assert!(told.mount.is_none());
    }

    #[test]
    fn a_mount_goes_with_its_device() {
        let pmem = |name: &str| ScmNamespace {
            blockdev: name.to_owned(),
            size: 7,
            ..ScmNamespace::default()
        };
        let of = |class: &str, list: &[&str]| ServerConfig {
            scm_class: class.to_owned(),
            scm_list: list.iter().map(|d| (*d).to_owned()).collect(),
            ..ServerConfig::default()
        };
        let mount = |rank| Mount {
            rank,
            total_bytes: 5,
            ..Mount::default()
        };
        let mut all = vec![pmem("pmem0"), pmem("pmem1")];
        attach(&of("dcpm", &["/dev/pmem1"]), mount(0), &mut all);
        // Two engines on memory of the host are two namespaces, also where there is persistent memory besides.
        attach(&of(RAM, &[]), mount(1), &mut all);
        attach(&of(RAM, &[]), mount(2), &mut all);
        // Nothing found it, but an engine has it.
        attach(&of("dcpm", &["/srv/scm"]), mount(3), &mut all);
        let told: Vec<_> = all
            .iter()
            .map(|n| (&*n.blockdev, n.size, n.mount.as_ref().map(|m| m.rank)))
            .collect();
        let expected = [
            ("pmem0", 7, None),
            ("pmem1", 7, Some(0)),
            (RAMDISK, 5, Some(1)),
            (RAMDISK, 5, Some(2)),
            ("scm", 5, Some(3)),
        ];
        assert_eq!(told, expected);
    }

    /// The state of a server with an engine whose SCM is in that directory.
    fn state(dir: &Path) -> State {
        let mut config = daos_config::Config::default();
        config.servers.push(ServerConfig {
            scm_mount: dir.to_owned(),
            scm_class: RAM.to_owned(),
            ..ServerConfig::default()
        });
        State::offline(config, daos_loader::StateDir::open(dir).unwrap())
    }

    #[test]
    fn what_pools_can_have_is_what_no_pool_has() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path());
        let config = &state.config.servers[0];
        let (engine, space) = (
            EngineStatus {
                rank: Some(4),
                ..state.engine(0)
            },
            EngineSpace {
                scm_free: 4096,
                ..EngineSpace::default()
            },
        );
        let told = mount(config, &engine, (8192, 5000), Some(&space));
        assert_eq!((told.rank, told.usable_bytes), (4, 4096));
        assert_eq!((told.avail_bytes, told.total_bytes), (5000, 8192));
        let told = mount(config, &engine, (8192, 100), Some(&space));
        assert_eq!(told.avail_bytes, 4096, "its pools have taken the rest");
        let told = mount(config, &engine, (2048, 100), Some(&space));
        assert_eq!(told.avail_bytes, 2048);
        // An engine that does not serve can give nothing, and may not have joined yet.
        let told = mount(config, &state.engine(0), (8192, 5000), None);
        assert_eq!((told.rank, told.usable_bytes), (NO_RANK, 0));
    }

    #[tokio::test]
    async fn file_systems_are_asked_where_there_is_a_superblock() {
        let dir = tempfile::tempdir().unwrap();
        let paths = vec![dir.path().to_owned(), PathBuf::from("/proc/none")];
        assert_eq!(file_systems(paths.clone()).await, [Ok(None), Ok(None)]);
        std::fs::write(dir.path().join("superblock"), "").unwrap();
        let told = file_systems(paths).await;
        let (total, free) = told[0].clone().unwrap().unwrap();
        assert!(0 < total && free <= total, "{total} {free}");
        let why = file_system(Path::new("/proc/none")).unwrap_err();
        assert!(why.contains("/proc/none cannot be asked"), "{why}");
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("superblock"), "").unwrap();
        let state = Arc::new(state(dir.path()));
        let pools = Pools::new(Arc::clone(&state));
        let usage = async |before: ResponseState| {
            let mut half = ScanScmResp {
                state: Some(before),
                ..ScanScmResp::default()
            };
            add_usage(&state, &pools, &mut half).await;
            let mount = half.namespaces[0].mount.clone().unwrap();
            (half.state.unwrap(), mount)
        };
        // One that does not serve has nothing to say, and nothing for pools.
        let (told, mount) = usage(ResponseState::default()).await;
        assert_eq!((told, mount.usable_bytes), (ResponseState::default(), 0));
        state.update(0, |engine| {
            engine.enter(EngineState::Ready, "it serves");
            engine.drpc_socket = dir.path().join("none.sock").display().to_string();
        });
        let (told, mount) = usage(ResponseState::default()).await;
        assert_eq!(told.status(), ResponseStatus::CtlErrScm);
        assert!(told.error.contains("engine 0 does not answer"), "{told:?}");
        assert!(mount.total_bytes > 0, "the rest is told all the same");
        let before = failed("plugin scm-x: it is ill".to_owned());
        assert_eq!(usage(before.clone()).await.0, before);
    }
}
