//! What the state machine asks the machine for: programs, and looks at block devices.

use crate::block::{BlockDevice, Holds};
use daos_plugin_api::abi::Status;
use daos_plugin_api::sdk::{Error, Result};
use rustix::fs::OFlags;
use scm_files::mounts;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A program that knows persistent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Regions and namespaces, of any module.
    Ndctl,
    /// What Intel's modules are used for.
    Ipmctl,
}

impl Program {
    /// Its name, which is also that of Debian's package.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndctl => "ndctl",
            Self::Ipmctl => "ipmctl",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Ndctl => "namespaces of persistent memory are listed and made by it",
            Self::Ipmctl => "what Intel's modules are used for is told and changed by it",
        }
    }
}

/// What a program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// What came of a program.
fn said(name: &str, output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let success = output.status.success();
    let mut err = text(&output.stderr);
    if !success && (output.status.code().is_none() || err.trim().is_empty()) {
        // Who is killed, or crashes, has no words for it.
        err += &format!("\n{name} ended with {}", output.status);
    }
    Said {
        success,
        out: text(&output.stdout),
        err,
    }
}

/// The machine, or a recording of one.
pub trait Tools {
    /// Whether the kernel has found any persistent memory. Cheap.
    fn has_memory(&self) -> bool;

    /// Runs `ndctl` or `ipmctl`.
    ///
    /// # Errors
    /// NOT_FOUND if it is not installed; it cannot be run.
    fn run(&mut self, program: Program, arguments: &[&str]) -> Result<Said>;

    /// Who uses a block device (`pmem0`), in words; `None` if nobody does.
    ///
    /// # Errors
    /// It cannot be found out.
    fn user(&mut self, device: &str) -> Result<Option<String>>;

    /// What a block device holds.
    ///
    /// # Errors
    /// It cannot be read.
    fn holds(&mut self, device: &str) -> Result<Holds>;
}

/// This machine.
#[derive(Default)]
pub(super) struct System {
    /// What keeps two runs apart. A program has it, too: one that goes on after a run that was killed is not to find the next run
    /// working on the same region.
    pub(super) lock: Option<File>,
}

impl System {
    /// Runs a program to its end.
    fn output(&self, program: &Path, arguments: &[&str]) -> io::Result<Output> {
        let input = match &self.lock {
            // Locks of `flock` are the open file's, which the program has then, too; it reads an end from it.
            Some(lock) => Stdio::from(lock.try_clone()?),
            None => Stdio::null(),
        };
        Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(input)
            .output()
    }
}

impl Tools for System {
    fn has_memory(&self) -> bool {
        let devices = fs::read_dir("/sys/bus/nd/devices").into_iter().flatten();
        devices.flatten().any(|device| {
            let name = device.file_name();
            let name = name.to_string_lossy();
            name.starts_with("nmem") || name.starts_with("region")
        })
    }

    fn run(&mut self, program: Program, arguments: &[&str]) -> Result<Said> {
        let name = program.name();
        let program = crate::ext4::program(name).ok_or_else(|| {
            Error::new(Status::NOT_FOUND, format!("{name} is not installed"))
                .cause(program.purpose())
                .remedy(format!("apt-get install {name}"))
        })?;
        let output = self
            .output(&program, arguments)
            .map_err(|e| Error::io(format!("cannot run {}", program.display()), e))?;
        Ok(said(name, &output))
    }

    fn user(&mut self, device: &str) -> Result<Option<String>> {
        let Some(block) = BlockDevice::at(&Path::new("/dev").join(device))? else {
            return Ok(None);
        };
        if let Some(mount) = mounts::all()?.iter().find(|m| m.device == block.number) {
            return Ok(Some(format!("mounted at {}", mount.at.display())));
        }
        // Mounts in other mount namespaces, LVM, swap: each takes the device for itself.
        let taken = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(&block.path);
        match taken {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => Ok(Some(
                "held by something: a mount in another mount namespace, LVM, or swap".to_owned(),
            )),
            // Who may not look at it must not be told that it is in use.
            _ => Ok(None),
        }
    }

    fn holds(&mut self, device: &str) -> Result<Holds> {
        match BlockDevice::at(&Path::new("/dev").join(device))? {
            Some(block) => block.holds(),
            None => Ok(Holds::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{System, said};
    use crate::prepare::run::exclusive;
    use daos_plugin_api::abi::Status;
    use std::fs::{File, OpenOptions};
    use std::path::Path;

    #[test]
    fn a_program_has_the_lock_of_its_run() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("lock");
        let open = || OpenOptions::new().read(true).write(true).open(&path);
        File::create_new(&path).expect("a file");
        let lock = exclusive(open().expect("a file")).expect("the lock");
        let busy = exclusive(open().expect("a file")).expect_err("taken");
        assert_eq!(busy.status, Status::BUSY);
        assert!(!busy.remedy.is_empty());
        // It may take the lock that nobody else can take, for it is its own; and reads an end.
        let script = "[ /proc/self/fd/0 -ef \"$1\" ] || exit 2; /usr/bin/flock --nonblock 0 || exit 3; \
                      read -r line && exit 4; printf %s whole";
        let named = path.display().to_string();
        let system = System { lock: Some(lock) };
        let said = system.output(Path::new("/bin/sh"), &["-c", script, "sh", &named]);
        let said = said.expect("it ran");
        assert!(said.status.success(), "{said:?}");
        assert_eq!(said.stdout, b"whole");
        drop(system);
        exclusive(open().expect("a file")).expect("nobody works any more");
    }

    #[test]
    fn who_ends_without_a_word_is_spoken_for() {
        let of = |script: &str| {
            let output = System::default().output(Path::new("/bin/sh"), &["-c", script]);
            said("ndctl", &output.expect("it ran"))
        };
        assert_eq!(of("exit 3").err, "\nndctl ended with exit status: 3");
        assert_eq!(of("echo no >&2; exit 3").err, "no\n");
        let killed = of("echo so >&2; kill -9 $$");
        assert_eq!(killed.err, "so\n\nndctl ended with signal: 9 (SIGKILL)");
        assert!(!killed.success);
        assert_eq!(of("echo fine").err, "");
    }
}
