//! A plugin directory with one hostile plugin, and a pool to run it in.

// Each test program includes this as a module of its own and uses a part.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use daos_helper::{CallOptions, Cause, HelperError, HelperPool, Operation, PoolOptions};
use daos_loader::{PluginFile, PluginInfo, Policy, StateDir};
use daos_plugin_api::control::{ClassRequest, DeviceSpec, DeviceState, FormatRequest};
use fixture_files::{HOSTILE, RAW, install};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub struct Bed {
    pub pool: HelperPool,
    pub plugin: PluginInfo,
    pub state: StateDir,
    pub dir: PathBuf,
    _scratch: tempfile::TempDir,
}

pub fn hostile(on: Value) -> Bed {
    bed(HOSTILE, json!({ "on": on }), |_| {})
}

pub fn raw(settings: Value) -> Bed {
    bed(RAW, settings, |_| {})
}

pub fn bed(fixture: &str, settings: Value, adjust: impl FnOnce(&mut PoolOptions)) -> Bed {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().canonicalize().unwrap();
    let plugin = inspect(&install(fixture, &dir, "plugin.so"));
    let state = StateDir::open(dir.join("state")).unwrap();
    let mut options = PoolOptions::new(env!("CARGO_BIN_EXE_daos_server_helper"));
    options.state = Some(state.clone());
    options.grace = Duration::from_millis(500);
    let Value::Object(settings) = settings else {
        panic!("settings are an object");
    };
    options.settings.insert(plugin.name().to_owned(), settings);
    adjust(&mut options);
    Bed {
        pool: HelperPool::new(options),
        plugin,
        state,
        dir,
        _scratch: scratch,
    }
}

pub fn inspect(path: &Path) -> PluginInfo {
    PluginFile::inspect(path, &Policy::default()).unwrap()
}

pub fn device() -> DeviceSpec {
    DeviceSpec {
        class: "hostile".to_owned(),
        index: 0,
        address: "hostile:0".to_owned(),
        size: 0,
        state: DeviceState::Present,
        detail: String::new(),
        config: Map::new(),
    }
}

/// Every operation of the control face.
pub fn control_operations() -> Vec<Operation> {
    let format = FormatRequest {
        device: device(),
        overwrite_foreign: false,
        nvme_format: false,
        check_only: false,
    };
    vec![
        Operation::Validate(ClassRequest::default()),
        Operation::Scan,
        Operation::Prepare(Map::new()),
        Operation::Release(Map::new()),
        Operation::Devices(ClassRequest::default()),
        Operation::Format(format),
        Operation::Mount(device()),
        Operation::Unmount(device()),
        Operation::Health(device()),
        Operation::Firmware(Map::new()),
    ]
}

pub fn deadline(ms: u64) -> CallOptions {
    CallOptions {
        deadline: Some(Duration::from_millis(ms)),
        ..CallOptions::default()
    }
}

impl Bed {
    pub async fn call(&self, operation: Operation) -> Result<Value, HelperError> {
        self.pool
            .call(&self.plugin, operation, CallOptions::default())
            .await
    }

    pub async fn scan(&self) -> Result<Value, HelperError> {
        self.call(Operation::Scan).await
    }

    /// Process that answered a scan.
    pub async fn scan_process(&self) -> u32 {
        process_of(&self.scan().await.expect("a working scan"))
    }
}

pub fn process_of(report: &Value) -> u32 {
    let note = report["notes"][0].as_str().expect("a note");
    note.strip_prefix("process ")
        .and_then(|n| n.parse().ok())
        .expect("a number")
}

/// What every error says, whatever happened.
pub fn assert_names(error: &HelperError, plugin: &str, operation: &str) {
    let text = error.to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    assert_eq!(
        (error.plugin.as_str(), error.operation.as_str()),
        (plugin, operation),
        "{text}"
    );
    for part in [plugin, "0.6.6", operation] {
        assert!(text.contains(part), "{part} in: {text}");
    }
    let wire = serde_json::to_string(error).unwrap();
    assert_eq!(&serde_json::from_str::<HelperError>(&wire).unwrap(), error);
}

pub fn plugin_error(error: &HelperError) -> &daos_helper::PluginError {
    match &error.cause {
        Cause::Plugin(error) => error,
        other => panic!("{other:?}"),
    }
}

pub fn is_alive(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .starts_with('Z'),
        Err(_) => false,
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what} did not come true"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
