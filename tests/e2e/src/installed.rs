//! A node as a package would install it: programs, plugins and configuration are root's, the server is `nobody`'s, and
//! the program with rights stands beside it.

use crate::site::{NOBODY, Site};
use fixture_files::{chmod, copy_etc};
use nix::unistd::{Gid, Uid, chown};
use std::fs;

/// Starts a program as `nobody` where `/etc` is the directory `etc` of the site, named by the first argument.
const IN_ITS_ETC: &str = "mount --bind \"$1\" /etc && shift && \
                          exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\"";

impl Site {
    /// Makes this site of root's such a node. What is started from now on finds the configuration in `/etc`, see
    /// [`Self::install_config`]; mounts of the server stay in a namespace of its own.
    ///
    /// # Errors
    /// Why that cannot be here.
    ///
    /// # Panics
    /// The files cannot be made.
    pub fn install(&mut self) -> Result<(), String> {
        use nix::sys::statvfs::{FsFlags, statvfs};
        let flags = statvfs(self.dir()).map_or(FsFlags::empty(), |fs| fs.flags());
        if flags.contains(FsFlags::ST_NOSUID) {
            return Err("the temporary directory is mounted nosuid".to_owned());
        }
        self.use_plugin_files();
        self.copy_programs();
        let program = self.program("daos_server_privileged");
        // The mode is of a file of its own, not of a link to the built one.
        let bytes = fs::read(&program).expect("just made");
        fs::remove_file(&program).expect("our directory");
        fs::write(&program, bytes).expect("our directory");
        chmod(&program, 0o4755);
        for name in ["sockets", "state", "tmp", "home"] {
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            chown(&self.path(name), Some(uid), Some(gid)).expect("root may give directories away");
        }
        let etc = self.path("etc");
        copy_etc(&etc);
        let etc = etc.display().to_string();
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c"];
        self.set_wrapper(&[&words[..], &[IN_ITS_ETC, "sh", &etc]].concat());
        Ok(())
    }

    /// Writes the configuration where such a node has it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn install_config(&self) {
        let path = self.path("etc/daos/daos_server.yml");
        fs::write(&path, self.config_text()).expect("our directory");
        chmod(&path, 0o644);
    }
}
