//! An echo over a plain socket, both sides blocking: what waking a thread of another process costs here.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The asking side, and the process that answers.
pub(crate) struct Echo {
    stream: TcpStream,
    message: Vec<u8>,
    child: Child,
}

impl Echo {
    /// Starts the other process.
    pub(crate) fn start(bytes: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let child = Command::new(std::env::current_exe()?)
            .arg("echo-peer")
            .arg(listener.local_addr()?.to_string())
            .arg(bytes.to_string())
            .stdin(Stdio::null())
            .spawn()?;
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            message: vec![7; bytes],
            child,
        })
    }

    /// A message there and back.
    pub(crate) fn exchange(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.message)?;
        Ok(self.stream.read_exact(&mut self.message)?)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // The peer ends with the connection; if it has already, there is nothing to do.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// The answering side: until the connection ends.
pub(crate) fn peer(address: &str, bytes: usize) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut message = vec![0; bytes];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}
