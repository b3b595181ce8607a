//! A listening socket with a path.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::net::{bind, listen};

use crate::{Error, socket};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listening socket. Dropping it removes its path, unless another one has been put there.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the path that this listener made.
    identity: (u64, u64),
}

impl Listener {
    /// Listens on `path` with access rights `mode` (0600 for servers and engines; the agent serves
    /// everybody with 0666). A stale socket, one that nobody listens on, is removed first.
    ///
    /// The directory is locked meanwhile, so that of two processes one wins and the other is told.
    ///
    /// # Errors
    /// [`Error::InUse`] when somebody listens on the path, [`Error::NotASocket`] when something else
    /// is there, and [`Error::Io`].
    pub fn bind(path: &Path, mode: u32) -> Result<Listener, Error> {
        let address = socket::address(path).map_err(|error| Error::io("listen on", path, error))?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Released when `lock` is dropped.
        let lock = File::open(directory)
            .map_err(|error| Error::io("open the socket directory", directory, error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| Error::io("lock the socket directory", directory, error))?;
        remove_stale(path)?;

        let made = (|| -> io::Result<Listener> {
            let socket = socket::new()?;
            // The path gets the mode of the socket less the umask: it is never wider than asked for.
            fchmod(&socket, Mode::from_raw_mode(mode & 0o777))?;
            bind(&socket, &address)?;
            let metadata = fs::symlink_metadata(path)?;
            // From here on dropping removes the path.
            let listener = Listener {
                socket,
                path: path.to_owned(),
                identity: (metadata.dev(), metadata.ino()),
            };
            fs::set_permissions(path, Permissions::from_mode(mode & 0o777))?;
            listen(&listener.socket, BACKLOG)?;
            Ok(listener)
        })();
        made.map_err(|error| Error::io("listen on", path, error))
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the dRPC socket");
        }
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("look at", path, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::NotASocket {
            path: path.to_owned(),
        });
    }
    match socket::connect_to(path) {
        // Nobody listens.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // Gone since: whoever it was has tidied up.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // Connected, queue full, a socket of another type or one that we may not connect to.
        Ok(connected) => {
            let caller = socket::caller(&connected).ok();
            return Err(Error::InUse {
                path: path.to_owned(),
                process: caller.map(|c| c.pid).filter(|pid| *pid > 0),
            });
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(Error::InUse {
                path: path.to_owned(),
                process: None,
            });
        }
        Err(error) => return Err(Error::io("find out who listens on", path, error)),
    }
    fs::remove_file(path).map_err(|error| Error::io("remove the stale socket", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_mode_is_as_asked_and_the_path_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        for mode in [0o600, 0o666] {
            let listener = Listener::bind(&path, mode).unwrap();
            assert_eq!(mode_of(&path), mode);
            assert_eq!(listener.path(), path);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_live_socket_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let first = Listener::bind(&path, 0o600).unwrap();
        let error = Listener::bind(&path, 0o600).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        let own = format!("process {}", std::process::id());
        assert!(error.to_string().contains(&own), "{error}");
        assert!(socket::connect_to(&path).is_ok());
        drop(first);
        Listener::bind(&path, 0o600).unwrap();
    }

    #[test]
    fn a_full_queue_counts_as_live() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let _listener = Listener::bind(&path, 0o600).unwrap();
        let mut connections = Vec::new();
        let full = loop {
            match socket::connect_to(&path) {
                Ok(connection) => connections.push(connection),
                Err(error) => break error,
            }
            assert!(connections.len() < 10 * BACKLOG as usize);
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert!(matches!(
            Listener::bind(&path, 0o600),
            Err(Error::InUse { .. })
        ));
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        // A process that dies leaves a bound path without a listener.
        let dead = socket::new().unwrap();
        bind(&dead, &socket::address(&path).unwrap()).unwrap();
        drop(dead);
        assert!(path.exists());
        let _listener = Listener::bind(&path, 0o600).unwrap();
        assert!(socket::connect_to(&path).is_ok());
    }

    #[test]
    fn what_is_not_a_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Listener::bind(&path, 0o600),
            Err(Error::NotASocket { .. })
        ));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(
            Listener::bind(&link, 0o600),
            Err(Error::NotASocket { .. })
        ));
    }

    #[test]
    fn a_path_put_there_by_another_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let listener = Listener::bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert_eq!(fs::read(&path).unwrap(), b"another's");
    }

    #[test]
    fn errors_name_the_path_and_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        let text = Listener::bind(&long, 0o600).unwrap_err().to_string();
        assert!(text.contains("107 bytes") && text.contains("xxx"), "{text}");
        let missing = dir.path().join("missing/s.sock");
        let text = Listener::bind(&missing, 0o600).unwrap_err().to_string();
        assert!(
            text.contains("missing") && text.contains("No such file"),
            "{text}"
        );
    }
}
