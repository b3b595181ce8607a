//! The image of an update, as this program sees it before any device does.

use super::fault;
use crate::plugins::Trouble;
use daos_proto::ctl::ResponseStatus;
use sha2::{Digest, Sha256};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Most bytes of an image; those of today's devices have a few MiB.
const LIMIT: u64 = 256 << 20;

/// An image that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) path: String,
    pub(super) bytes: u64,
    /// Lower-case hexadecimal SHA-256.
    pub(super) sha256: String,
}

impl Image {
    /// Reads the image with the rights of this process: a helper, which may read everything, is not used to look into
    /// files for somebody who may not.
    ///
    /// # Errors
    /// It is no regular file that this process may read, empty, or larger than any image.
    pub(super) fn read(path: &str) -> Result<Self, Trouble> {
        let refused = |cause: String, remedy: &str| {
            let what = format!("the firmware image {path} cannot be used");
            fault(ResponseStatus::CtlErrConf, what, cause, remedy)
        };
        if !Path::new(path).is_absolute() {
            let remedy = "name the image with its whole path on the host of the devices";
            return Err(refused("its path is not absolute".to_owned(), remedy));
        }
        let unreadable = |error: std::io::Error| {
            let remedy = "copy the image to each host, where the user of daos_server can read it";
            refused(error.to_string(), remedy)
        };
        // Without waiting for somebody to write into a pipe.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
            .map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?;
        let wrong = match (found.is_file(), found.len()) {
            (false, _) => Some("it is no regular file".to_owned()),
            (true, 0) => Some("it is empty".to_owned()),
            (true, bytes) if bytes > LIMIT => {
                Some(format!("it has {bytes} bytes, an image at most {LIMIT}"))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(refused(wrong, "name the file that the vendor provides"));
        }
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 16];
        let mut bytes = 0;
        loop {
            let read = file.read(&mut piece).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
            bytes += read as u64;
        }
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            path: path.to_owned(),
            bytes,
            sha256,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_with_something_in_them_are_images() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("good"), "abc").unwrap();
        std::fs::write(path("empty"), "").unwrap();
        nix::unistd::mkfifo(
            Path::new(&path("pipe")),
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )
        .unwrap();
        let huge = std::fs::File::create(path("huge")).unwrap();
        huge.set_len(LIMIT + 1).unwrap();
        let image = Image::read(&path("good")).unwrap();
        assert_eq!(image.bytes, 3);
        assert_eq!(
            image.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        for (name, word) in [
            (path("empty"), "empty"),
            (path("pipe"), "no regular file"),
            (path(""), "no regular file"),
            (path("huge"), "at most"),
            (path("absent"), "No such file"),
            ("good".to_owned(), "not absolute"),
        ] {
            let fault = Image::read(&name).unwrap_err();
            assert!(fault.cause.contains(word), "{name}: {fault}");
            assert!(!fault.remedy.is_empty() && fault.what.contains(&name));
        }
    }
}
