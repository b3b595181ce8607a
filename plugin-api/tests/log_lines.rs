//! Where a plugin's log lines go when instances come and go in one process: to the host of a living
//! instance, never to services that are gone.

use daos_plugin_api::abi::{LogLevel, Status};
use daos_plugin_api::control::ScanReport;
use daos_plugin_api::host::{CallOptions, HostLog, Instance, InstanceOptions};
use daos_plugin_api::sdk::{CallContext, Error, Host, Plugin, Result, thunks};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex};

struct Chatty;

impl Plugin for Chatty {
    const MANIFEST: &'static str = r#"{"name":"chatty","version":"1.0.0","classes":[]}"#;

    fn create(_: Host, _: CallContext<'_>, settings: Map<String, Value>) -> Result<Self> {
        tracing::info!("creating");
        if settings.contains_key("fail") {
            return Err(Error::new(Status::INVALID, "told to fail"));
        }
        Ok(Self)
    }

    fn scan(&self, _: CallContext<'_>) -> Result<ScanReport> {
        tracing::info!(found = 0, "scanning");
        Ok(ScanReport::default())
    }
}

daos_plugin_api::declare_plugin!(Chatty);

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl HostLog for Lines {
    fn level(&self) -> LogLevel {
        LogLevel::INFO
    }

    fn log(&self, _: LogLevel, _: &str, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn instance(lines: &Arc<Lines>, settings: Map<String, Value>) -> Result<Instance> {
    let options = InstanceOptions {
        log: Some(lines.clone()),
        ..InstanceOptions::loaded().settings(settings)
    };
    Instance::create(thunks::table::<Chatty>(), options)
}

// One test: the forwarding is one per process.
#[test]
fn lines_go_to_a_living_host_and_to_nobody_after_the_last() {
    let first = Arc::new(Lines::default());
    let a = instance(&first, Map::new()).unwrap();
    a.scan(CallOptions::default()).unwrap();
    assert_eq!(first.take(), ["creating", "scanning found=0"]);

    let failed = Arc::new(Lines::default());
    let fail = Map::from_iter([("fail".to_owned(), Value::Bool(true))]);
    assert!(instance(&failed, fail).is_err());
    assert_eq!(failed.take(), ["creating"]);
    a.scan(CallOptions::default()).unwrap();
    assert_eq!(
        first.take(),
        ["scanning found=0"],
        "the failed one's host is forgotten"
    );

    drop(a);
    tracing::error!("nobody is there");
    assert_eq!(Arc::strong_count(&first), 1, "the services are gone");
    assert!(first.take().is_empty());

    let second = Arc::new(Lines::default());
    let b = instance(&second, Map::new()).unwrap();
    b.scan(CallOptions::default()).unwrap();
    assert_eq!(second.take(), ["creating", "scanning found=0"]);
}
