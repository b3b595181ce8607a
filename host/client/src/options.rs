//! How a client is set up.

use daos_wire::EngineUri;
use std::path::PathBuf;
use std::time::Duration;

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAddress {
    /// Ask the control plane, at the first of these `host:port` that answers; asked again whenever
    /// the engine cannot be reached.
    AccessPoints(Vec<String>),
    /// At these addresses, for the life of the client. A restarted engine has others.
    Uri(EngineUri),
}

/// What does the work on the fabric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// A thread of the client's own: calls make progress whatever the tasks of the caller do. Each
    /// call costs a switch to that thread and one back.
    #[default]
    Thread,
    /// A task on the thread that connects: no switches, and many clients on one thread. For threads
    /// whose tasks are short: one that computes for long holds up all calls. Connecting panics
    /// outside of a [`LocalSet`](tokio::task::LocalSet); calls may come from other threads.
    Local,
}

/// Settings of a [`Client`](crate::Client). Fields may be changed after a constructor filled them.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the engine is.
    pub engine: EngineAddress,
    /// Name of the system that the access points must belong to; `None` = any.
    pub system: Option<String>,
    /// Which engine, where the access point knows several; `None` = the one of lowest rank, also while that
    /// does not serve: containers belong to a rank.
    pub rank: Option<u32>,
    /// Network interface or address of this machine; empty = the fabric plugin chooses.
    pub interface: String,
    /// Directory of fabric plugins beside the built-in one.
    pub plugins_dir: Option<PathBuf>,
    /// Directory with daosCA.crt, agent.crt and agent.key, to ask access points over TLS; `None` = in plain text,
    /// which only servers without TLS answer.
    pub cert_dir: Option<PathBuf>,
    /// What does the work on the fabric.
    pub progress: Progress,
    /// Longest time a call may take, with all its repetitions. Also the limit of connecting.
    pub deadline: Duration,
    /// Longest time to wait for an answer before the request is sent again. An engine that died
    /// is usually noticed much earlier.
    pub attempt: Duration,
    /// Most calls on their way at once; more wait here.
    pub in_flight: usize,
}

impl Options {
    /// Defaults for an engine.
    pub fn new(engine: EngineAddress) -> Self {
        Self {
            engine,
            system: None,
            rank: None,
            interface: String::new(),
            plugins_dir: None,
            cert_dir: None,
            progress: Progress::default(),
            deadline: Duration::from_secs(30),
            attempt: Duration::from_secs(10),
            in_flight: 512,
        }
    }

    /// Defaults for an engine that the server at `host:port` knows.
    pub fn access_point(host_port: impl Into<String>) -> Self {
        Self::new(EngineAddress::AccessPoints(vec![host_port.into()]))
    }

    /// Defaults for an engine whose address is known.
    pub fn uri(uri: EngineUri) -> Self {
        Self::new(EngineAddress::Uri(uri))
    }
}
