//! Where this host stands among others: `fault_path`, what `fault_cb` prints, or its own name.

use crate::state::hostname;
use anyhow::{Context, bail};
use daos_config::Config;
use daos_loader::Trust;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// How long `fault_cb` may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes that it may print: more than any path has.
const MOST: u64 = 4096;
/// Where it finds the programs that it runs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The fault domain: a path from the widest domain to this host, in small letters, so that hosts that spell one
/// domain differently share it.
///
/// # Errors
/// `fault_cb` cannot be trusted, fails, or prints no path.
pub(crate) async fn find(config: &Config) -> anyhow::Result<String> {
    let domain = match (&config.fault_path, &config.fault_cb) {
        (Some(path), _) => path.clone(),
        (None, None) => format!("/{}", hostname()),
        (None, Some(program)) => ask(program)
            .await
            .with_context(|| format!("fault_cb {} is of no use", program.display()))?,
    };
    Ok(domain.to_lowercase())
}

/// Whether the program may be run: it decides where copies of data go, with the rights of this server.
fn trusted(program: &Path) -> anyhow::Result<PathBuf> {
    let found = std::fs::symlink_metadata(program)?;
    let shown = program.display();
    if found.is_symlink() {
        bail!("it is a symbolic link; name the program itself");
    }
    if !found.is_file() {
        bail!("it is no file");
    }
    if found.mode() & 0o6000 != 0 {
        bail!("it would run with the rights of its owner or group; run: chmod ug-s {shown}");
    }
    if found.mode() & 0o022 != 0 {
        bail!("others than its owner may change it; run: chmod go-w {shown}");
    }
    // The directories above it, too.
    Ok(Trust::current().program(program)?)
}

async fn ask(program: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(trusted(program)?);
    command
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("its output cannot be read");
    };
    let (mut printed, mut said) = (Vec::new(), Vec::new());
    let (mut out, mut err) = (out.take(MOST + 1), err.take(MOST));
    let printing = async {
        out.read_to_end(&mut printed).await?;
        // Who prints without end does not end either.
        match printed.len() as u64 > MOST {
            true => Err(io::Error::other(format!(
                "it printed more than {MOST} bytes, and one line is wanted"
            ))),
            false => Ok(()),
        }
    };
    let ended = async {
        tokio::try_join!(printing, err.read_to_end(&mut said))?;
        child.wait().await
    };
    let status = match timeout(WITHIN, ended).await {
        Ok(status) => status?,
        Err(_) => bail!("it had not ended after {} s", WITHIN.as_secs()),
    };
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        bail!("it ended with {status}: {}", said.trim());
    }
    let text = String::from_utf8_lossy(&printed);
    let path = text.trim();
    if !daos_config::is_fault_path(path) {
        bail!(
            "it printed {text:?}, which is no path of labels like /rack1/host: letters, digits and -._=: between slashes"
        );
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    async fn with_script(text: &str, mode: u32) -> anyhow::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cb");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut config = Config::default();
        config.fault_cb = Some(path);
        find(&config).await
    }

    #[tokio::test]
    async fn the_callback_is_asked_and_checked() {
        assert_eq!(
            with_script("echo /rack1/node2", 0o755).await.unwrap(),
            "/rack1/node2"
        );
        for (text, mode, word) in [
            ("echo /rack1/node2", 0o777, "chmod go-w"),
            ("echo /rack1/node2", 0o775, "chmod go-w"),
            ("echo /rack1/node2", 0o4755, "chmod ug-s"),
            ("echo /rack1/node2", 0o2755, "chmod ug-s"),
            ("echo /rack1/node 2", 0o755, "no path"),
            (
                "while :; do echo /rack1/node2; done",
                0o755,
                "more than 4096 bytes",
            ),
            ("echo rack1", 0o755, "no path"),
            ("echo /a//b", 0o755, "no path"),
            ("true", 0o755, "no path"),
            ("echo lost >&2; exit 3", 0o755, "lost"),
            ("echo /a", 0o600, "denied"),
        ] {
            let error = format!("{:#}", with_script(text, mode).await.unwrap_err());
            assert!(
                error.contains(word) && error.contains("fault_cb"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_link_to_the_callback_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("cb");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        let mut config = Config::default();
        for (program, word) in [(link, "symbolic link"), (dir.path().to_owned(), "no file")] {
            config.fault_cb = Some(program);
            let error = format!("{:#}", find(&config).await.unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }

    #[tokio::test]
    async fn the_callback_has_nothing_of_the_server_s_environment() {
        // Of this test's process, cargo sets this one.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let found = with_script("echo /rack${CARGO_MANIFEST_DIR:-1}", 0o755).await;
        assert_eq!(found.unwrap(), "/rack1");
    }

    #[tokio::test]
    async fn without_keys_it_is_the_host_itself() {
        let found = find(&Config::default()).await.unwrap();
        assert_eq!(found, format!("/{}", hostname()).to_lowercase());
        let mut config = Config::default();
        config.fault_path = Some("/VCDU0/Rack1/Node".to_owned());
        assert_eq!(find(&config).await.unwrap(), "/vcdu0/rack1/node");
    }
}
