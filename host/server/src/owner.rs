//! The user that runs the data plane (`user_name`, `group_name`) when the server itself runs as root.

use anyhow::{Context, bail};
use daos_config::Config;
use nix::unistd::{Group, User, geteuid};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

/// Whom engines run as, and who owns what they use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    name: String,
}

impl Owner {
    /// The user of the configuration; `None` if that is whoever runs this program.
    ///
    /// # Errors
    /// There is no such user or group, or only root could change to them.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let own = User::from_uid(geteuid())?;
        let user = match &config.user_name {
            None => own.clone().context("this user has no name"),
            Some(name) => User::from_name(name)?
                .with_context(|| format!("user_name: there is no user {name} on this host")),
        };
        if (&config.user_name, &config.group_name) == (&None, &None) {
            return Ok(None);
        }
        let user = user?;
        let gid = match &config.group_name {
            None => user.gid,
            Some(name) => {
                Group::from_name(name)?
                    .with_context(|| format!("group_name: there is no group {name} on this host"))?
                    .gid
            }
        };
        if (user.uid, gid) == (geteuid(), nix::unistd::getegid()) {
            return Ok(None);
        }
        if !geteuid().is_root() {
            bail!(
                "user_name and group_name: daos_server runs as {}, and only root can run engines as {} (group {gid}); \
                 start it as root or as that user",
                own.map_or_else(|| geteuid().to_string(), |u| u.name),
                user.name
            );
        }
        Ok(Some(Self {
            uid: user.uid.as_raw(),
            gid: gid.as_raw(),
            name: user.name,
        }))
    }

    /// Lets the owner use the directory of sockets, if it was made for this server.
    ///
    /// # Errors
    /// Somebody else made it, and the owner may not write there.
    pub(crate) fn take_directory(&self, dir: &Path, made: bool) -> anyhow::Result<()> {
        if made {
            return self.take(dir).with_context(|| self.cannot(dir));
        }
        let found = fs::metadata(dir).with_context(|| self.cannot(dir))?;
        let bits = match (found.uid(), found.gid()) {
            (uid, _) if uid == self.uid => 0o300,
            (_, gid) if gid == self.gid => 0o030,
            _ => 0o003,
        };
        if self.uid != 0 && found.mode() & bits != bits {
            bail!(
                "user {} cannot make sockets in {1}; run: chown {2}:{3} {1}",
                self.name,
                dir.display(),
                self.uid,
                self.gid
            );
        }
        Ok(())
    }

    /// Gives a file or directory, not what a link points to, to the owner.
    pub(crate) fn take(&self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        if (found.uid(), found.gid()) == (self.uid, self.gid) {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
    }

    /// Gives a directory and everything in it on the same file system to the owner.
    ///
    /// # Errors
    /// Which entry could not be given away.
    pub(crate) fn take_tree(&self, root: &Path) -> anyhow::Result<()> {
        let device = fs::symlink_metadata(root)
            .with_context(|| self.cannot(root))?
            .dev();
        let mut todo = vec![root.to_owned()];
        while let Some(path) = todo.pop() {
            self.take(&path).with_context(|| self.cannot(&path))?;
            let found = fs::symlink_metadata(&path)?;
            if found.is_dir() && found.dev() == device {
                for entry in fs::read_dir(&path).with_context(|| self.cannot(&path))? {
                    todo.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Gives an engine's storage to the owner: its SCM, and devices (named CLASS:ADDRESS) that are files or
    /// nodes.
    ///
    /// # Errors
    /// Which part could not be given away.
    pub(crate) fn take_storage(&self, scm: &Path, devices: &[String]) -> anyhow::Result<()> {
        self.take_tree(scm)?;
        for device in devices {
            let path = Path::new(device.split_once(':').map_or("", |(_, address)| address));
            if path.is_absolute() && path != scm {
                let path = fs::canonicalize(path).with_context(|| self.cannot(path))?;
                self.take(&path).with_context(|| self.cannot(&path))?;
            }
        }
        Ok(())
    }

    fn cannot(&self, path: &Path) -> String {
        format!("cannot give {} to user {}", path.display(), self.name)
    }

    #[cfg(test)]
    fn new(uid: nix::unistd::Uid, gid: nix::unistd::Gid) -> Self {
        Self {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            name: "somebody".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn config(user: Option<&str>, group: Option<&str>) -> Config {
        let mut config = Config::default();
        config.user_name = user.map(str::to_owned);
        config.group_name = group.map(str::to_owned);
        config
    }

    #[test]
    fn oneself_needs_nothing_and_nobody_is_refused_by_name() {
        assert_eq!(Owner::of(&config(None, None)).unwrap(), None);
        let own = User::from_uid(geteuid()).unwrap().unwrap();
        assert_eq!(Owner::of(&config(Some(&own.name), None)).unwrap(), None);
        for config in [
            config(Some("no-such-user"), None),
            config(None, Some("no-such-user")),
        ] {
            let error = Owner::of(&config).unwrap_err().to_string();
            assert!(error.contains("no-such-user"), "{error}");
        }
        let other = Owner::of(&config(Some("nobody"), None));
        match geteuid().is_root() {
            true => assert_eq!(other.unwrap().unwrap().uid, 65_534),
            false => assert!(other.unwrap_err().to_string().contains("only root")),
        }
    }

    #[test]
    fn a_directory_that_the_owner_cannot_write_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let other = Owner::new(4711.into(), 4711.into());
        let error = other.take_directory(dir.path(), false).unwrap_err();
        assert!(error.to_string().contains("chown 4711:4711"), "{error}");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        other.take_directory(dir.path(), false).unwrap();
        let own = Owner::new(geteuid(), nix::unistd::getegid());
        fs::write(dir.path().join("x"), "").unwrap();
        own.take_tree(dir.path()).unwrap();
    }
}
