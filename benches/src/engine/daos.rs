//! Our side: an engine process, and workers on its client library.

use crate::formatted::Formatted;
use crate::process::{Cpu, Server};
use crate::workload::{Worker, check, key, stamp, value};
use anyhow::{Context, bail};
use daos_client::{Client, Container, EngineUri, ObjectId, Options, Progress, Uuid};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONTAINER: Uuid = Uuid::from_u128(0xbf);
const OBJECT: ObjectId = ObjectId { hi: 0, lo: 1 };

/// A running engine.
pub(crate) struct Engine {
    server: Server,
    uri: EngineUri,
    /// From its start until it served.
    pub(crate) took: Duration,
    log: PathBuf,
    /// Where clients find the plugin of the fabric, if it is not built in.
    plugins: Option<PathBuf>,
}

/// A fabric that is not built in.
pub(crate) struct Over<'a> {
    /// Name of the provider, as in a configuration.
    pub(crate) provider: &'a str,
    /// File of its plugin.
    pub(crate) plugin: &'a Path,
    /// Settings of plugins, JSON.
    pub(crate) settings: &'a str,
}

impl Engine {
    /// Starts the engine that stands beside this program.
    pub(crate) fn start(storage: &Formatted) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("daos_io_server");
        Self::start_program(&program, storage)
    }

    /// The same over another fabric than the built-in one.
    pub(crate) fn start_over(storage: &Formatted, over: &Over<'_>) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("daos_io_server");
        let mut arguments = storage.arguments();
        let provider = arguments.iter().position(|word| word == "--provider");
        arguments[provider.context("engines are given a provider")? + 1] = over.provider.to_owned();
        let plugin = over.plugin.display().to_string();
        arguments.extend(["--fabric-plugin".to_owned(), plugin]);
        arguments.extend(["--plugin-settings".to_owned(), over.settings.to_owned()]);
        let mut engine = Self::start_with(&program, storage, &arguments)?;
        // Clients look for plugins in a directory. A file that this process has mapped must not be written.
        let plugins = storage.memory().join("plugins");
        std::fs::create_dir_all(&plugins)?;
        let name = over.plugin.file_name().context("the plugin is no file")?;
        if !plugins.join(name).exists() {
            std::fs::copy(over.plugin, plugins.join(name))?;
        }
        engine.plugins = Some(plugins);
        Ok(engine)
    }

    pub(crate) fn start_program(program: &Path, storage: &Formatted) -> anyhow::Result<Self> {
        Self::start_with(program, storage, &storage.arguments())
    }

    fn start_with(
        program: &Path,
        storage: &Formatted,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let log = storage.memory().join("engine.log");
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        let begun = Instant::now();
        let mut server = Server::start(
            Command::new(program)
                .args(arguments)
                .env("D_LOG_MASK", "INFO")
                .env("D_LOG_FILE", &log)
                .stdin(Stdio::null())
                .stdout(Stdio::piped()),
        )?;
        let output = server.child().stdout.take().context("no pipe")?;
        for line in BufReader::new(output).lines() {
            if let Some(uri) = line?.strip_prefix("uri ") {
                let uri = uri.parse().map_err(|e| anyhow::anyhow!("{uri}: {e}"))?;
                return Ok(Self {
                    server,
                    uri,
                    took: begun.elapsed(),
                    log,
                    plugins: None,
                });
            }
        }
        bail!("{} did not start; see above", program.display());
    }

    pub(crate) fn cpu(&self) -> Cpu {
        self.server.cpu()
    }

    /// Records of the log that it replayed when it started.
    pub(crate) fn replayed(&self) -> anyhow::Result<u64> {
        let log = std::fs::read_to_string(&self.log)?;
        let count = log
            .lines()
            .filter(|line| line.contains("target recovered"))
            .find_map(|line| line.split("replayed=").nth(1)?.split_whitespace().next());
        count
            .and_then(|count| count.parse().ok())
            .context("the engine does not say what it replayed")
    }

    /// Ends it without warning.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.server.child().kill()?;
        self.server.child().wait()?;
        Ok(())
    }

    /// A client with a connection of its own, that works on this thread as the other side does.
    pub(crate) async fn connect(&self) -> anyhow::Result<Container> {
        self.connect_as(Progress::Local).await
    }

    /// A client with a connection of its own.
    pub(crate) async fn connect_as(&self, progress: Progress) -> anyhow::Result<Container> {
        let mut options = Options::uri(self.uri.clone());
        options.progress = progress;
        options.interface = "lo".into();
        options.plugins_dir.clone_from(&self.plugins);
        let client = Client::connect(options).await?;
        let pool = client.only_pool().await?;
        Ok(pool.create_container(CONTAINER, "").await?)
    }
}

/// Puts values, from memory of its own.
pub(crate) struct Put {
    container: Container,
    value: Arc<[u8]>,
}

impl Put {
    pub(crate) fn new(container: &Container, bytes: usize) -> Self {
        Self {
            container: container.clone(),
            value: value(bytes).into(),
        }
    }
}

impl Worker for Put {
    async fn step(&mut self, n: u64) -> anyhow::Result<()> {
        let own = Arc::get_mut(&mut self.value).context("a put that has ended holds its value")?;
        stamp(own, n);
        let value = self.value.clone();
        let key = key(n);
        let put = self.container.put_shared(OBJECT, &key, b"v", value);
        Ok(put.await?)
    }
}

/// Gets values into memory of its own and checks whose they are.
pub(crate) struct Get {
    container: Container,
    bytes: usize,
    room: Vec<u8>,
}

impl Get {
    pub(crate) fn new(container: &Container, bytes: usize) -> Self {
        Self {
            container: container.clone(),
            bytes,
            room: vec![0; bytes],
        }
    }
}

impl Worker for Get {
    async fn step(&mut self, n: u64) -> anyhow::Result<()> {
        let room = std::mem::take(&mut self.room);
        let key = key(n);
        let get = self.container.get_into(OBJECT, &key, b"v", room);
        self.room = get.await?;
        check(&self.room, self.bytes, n)
    }
}
