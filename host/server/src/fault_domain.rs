//! Where this host stands among others: `fault_path`, what `fault_cb` prints, or its own name.

use crate::state::hostname;
use anyhow::{Context, bail};
use daos_config::Config;
use daos_loader::Trust;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long `fault_cb` may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The fault domain: a path from the widest domain to this host.
///
/// # Errors
/// `fault_cb` cannot be trusted, fails, or prints no path.
pub(crate) async fn find(config: &Config) -> anyhow::Result<String> {
    match (&config.fault_path, &config.fault_cb) {
        (Some(path), _) => Ok(path.clone()),
        (None, None) => Ok(format!("/{}", hostname())),
        (None, Some(program)) => ask(program)
            .await
            .with_context(|| format!("fault_cb {} is of no use", program.display())),
    }
}

async fn ask(program: &Path) -> anyhow::Result<String> {
    // It runs as this user, so nobody else may be able to change it.
    let program = Trust::current().program(program)?;
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = match timeout(WITHIN, command.output()).await {
        Ok(output) => output?,
        Err(_) => bail!("it printed nothing within {} s", WITHIN.as_secs()),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("it ended with {}: {}", output.status, said.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let path = text.trim();
    let labels: Vec<&str> = path.split('/').collect();
    let is_path = labels.len() > 1
        && labels[0].is_empty()
        && labels[1..]
            .iter()
            .all(|l| !l.is_empty() && !l.chars().any(|c| c.is_control() || c.is_whitespace()));
    if !is_path {
        bail!("it printed {text:?}, which is no path of labels like /rack1/host");
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
            ("echo /rack1/node2", 0o777, "chmod"),
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
    async fn without_keys_it_is_the_host_itself() {
        let found = find(&Config::default()).await.unwrap();
        assert_eq!(found, format!("/{}", hostname()));
    }
}
