//! Their side: a Redis server, workers with one connection each, and redis-benchmark.

use crate::process::{Cpu, Server};
use crate::workload::{KEY, Worker, check, key, stamp, value};
use anyhow::{Context, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing: memory only.
    None,
    /// Every write before it is answered (`appendfsync always`).
    Always,
}

/// A running server, on the loopback.
pub(crate) struct Redis {
    server: Server,
    address: SocketAddr,
    _dir: TempDir,
}

impl Redis {
    /// Starts a server whose files, if it has any, are in a new directory under `parent`.
    pub(crate) async fn start(durability: Durability, parent: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("redis.")
            .tempdir_in(parent)?;
        // Free a moment ago, and asked for again below if somebody took it.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let append = match durability {
            Durability::None => "no",
            Durability::Always => "yes",
        };
        let arguments = format!(
            "--port {port} --bind 127.0.0.1 --protected-mode no --daemonize no --loglevel warning \
             --appendonly {append} --appendfsync always --auto-aof-rewrite-percentage 0"
        );
        let server = Server::start(
            Command::new("redis-server")
                .args(arguments.split_whitespace())
                .args(["--save", ""])
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null()),
        )
        .context("install the package redis-server")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let by = Instant::now() + Duration::from_secs(10);
        while let Err(error) = TcpStream::connect(address).await {
            if Instant::now() > by {
                bail!("redis-server does not listen on {address}: {error}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self {
            server,
            address,
            _dir: dir,
        })
    }

    pub(crate) fn cpu(&self) -> Cpu {
        self.server.cpu()
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            reply: Vec::new(),
        })
    }

    /// A worker that sets values of `bytes`.
    pub(crate) async fn set(&self, bytes: usize) -> anyhow::Result<Set> {
        let mut command = format!("*3\r\n$3\r\nSET\r\n${KEY}\r\n").into_bytes();
        let key_at = command.len();
        command.extend_from_slice(&key(0));
        command.extend_from_slice(format!("\r\n${bytes}\r\n").as_bytes());
        let value_at = command.len();
        command.extend_from_slice(&value(bytes));
        command.extend_from_slice(b"\r\n");
        Ok(Set {
            connection: self.connect().await?,
            command,
            key_at,
            value_at,
        })
    }

    /// A worker that gets values of `bytes` and checks whose they are.
    pub(crate) async fn get(&self, bytes: usize) -> anyhow::Result<Get> {
        Ok(Get {
            connection: self.connect().await?,
            bytes,
        })
    }

    /// Operations per second of redis-benchmark without pipelining.
    pub(crate) fn benchmark(&self, set: bool, case: &Benchmark) -> anyhow::Result<f64> {
        let output = Command::new("redis-benchmark")
            .args([
                "-p",
                &self.address.port().to_string(),
                "--csv",
                "--dbnum",
                "1",
            ])
            .args(["-t", if set { "set" } else { "get" }])
            .args(["-c", &case.clients.to_string()])
            .args(["-d", &case.bytes.to_string()])
            .args(["-n", &case.operations.to_string()])
            .args(["-r", &case.keys.to_string()])
            .output()
            .context("install the package redis-tools")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text
            .lines()
            .find_map(|line| line.strip_prefix(if set { "\"SET\",\"" } else { "\"GET\",\"" }))
            .and_then(|rest| rest.split('"').next())
            .and_then(|rate| rate.parse().ok());
        rate.with_context(|| format!("redis-benchmark said {text:?}"))
    }
}

/// A run of redis-benchmark.
pub(crate) struct Benchmark {
    pub(crate) clients: usize,
    pub(crate) bytes: usize,
    pub(crate) operations: u64,
    pub(crate) keys: u64,
}

/// A connection and the reply that it last got.
struct Connection {
    stream: TcpStream,
    reply: Vec<u8>,
}

impl Connection {
    async fn line(&mut self, command: &[u8], expected: &[u8]) -> anyhow::Result<()> {
        self.ask(command, expected.len()).await?;
        ensure!(
            self.reply == expected,
            "Redis answers {}",
            String::from_utf8_lossy(&self.reply)
        );
        Ok(())
    }

    /// Sends a command and reads a reply of exactly `len` bytes.
    async fn ask(&mut self, command: &[u8], len: usize) -> anyhow::Result<()> {
        self.stream.write_all(command).await?;
        self.reply.resize(len, 0);
        let mut have = 0;
        while have < len {
            let count = self.stream.read(&mut self.reply[have..]).await?;
            ensure!(count > 0, "Redis closed the connection");
            have += count;
            if self.reply[0] == b'-' {
                bail!("Redis: {}", String::from_utf8_lossy(&self.reply[..have]));
            }
        }
        Ok(())
    }
}

/// Sets values.
pub(crate) struct Set {
    connection: Connection,
    command: Vec<u8>,
    key_at: usize,
    value_at: usize,
}

impl Worker for Set {
    async fn step(&mut self, n: u64) -> anyhow::Result<()> {
        self.command[self.key_at..self.key_at + KEY].copy_from_slice(&key(n));
        stamp(&mut self.command[self.value_at..], n);
        self.connection.line(&self.command, b"+OK\r\n").await
    }
}

/// Gets values.
pub(crate) struct Get {
    connection: Connection,
    bytes: usize,
}

impl Worker for Get {
    async fn step(&mut self, n: u64) -> anyhow::Result<()> {
        let mut command = *b"*2\r\n$3\r\nGET\r\n$16\r\nkey:............\r\n";
        let at = command.len() - 2 - KEY;
        command[at..at + KEY].copy_from_slice(&key(n));
        let digits = self.bytes.checked_ilog10().unwrap_or(0) as usize + 1;
        let head = 1 + digits + 2;
        self.connection.ask(&command, head + self.bytes + 2).await?;
        check(
            &self.connection.reply[head..head + self.bytes],
            self.bytes,
            n,
        )
    }
}
