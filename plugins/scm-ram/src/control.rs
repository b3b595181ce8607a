//! The control face: scan, devices, format, mount, unmount.

use crate::manifest::{CLASS, Settings};
use crate::nodes;
use crate::place::{Kind, Marker, Place, SOURCE, State, is_tmpfs};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassKind, ClassRequest, DeviceRecord, DeviceSpec, DeviceState, FormatReport, FormatRequest,
    ScanReport,
};
use daos_plugin_api::sdk::{CallContext, Error, Result};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::CapabilitySet;
use scm_files::tree::{Owner, free_space, make_directory};
use serde_json::{Map, Value};
use std::ffi::CString;
use std::fs;
use std::path::Path;

pub(crate) fn scan() -> Result<ScanReport> {
    let devices = nodes::list(Path::new("/"))?
        .into_iter()
        .map(|node| DeviceRecord {
            kind: ClassKind::Scm,
            class: CLASS.into(),
            address: format!("node{}", node.number.max(0)),
            model: "system memory".into(),
            serial: String::new(),
            firmware: String::new(),
            size: node.total,
            block_size: 0,
            numa_node: node.number,
            in_use: None,
            details: Map::from_iter([("free".into(), Value::from(node.free))]),
        })
        .collect();
    Ok(ScanReport {
        devices,
        ..ScanReport::default()
    })
}

pub(crate) fn devices(request: ClassRequest) -> Result<DeviceSpec> {
    let settings = Settings::parse(&request.class, &request.config)?;
    let place = Place::new(&settings.mount);
    let (state, detail) = match place.inspect()? {
        State::Nothing | State::Empty | State::Unfinished => (DeviceState::Absent, String::new()),
        State::Ours(_) => match place.holder()? {
            None => (DeviceState::Present, String::new()),
            Some(holder) => (DeviceState::InUse, format!("{holder} has it open")),
        },
        State::Foreign(what) => (DeviceState::Absent, what),
        State::ForeignMount(what) => (DeviceState::InUse, what),
    };
    Ok(DeviceSpec {
        class: request.class,
        index: 0,
        address: settings.mount.display().to_string(),
        size: settings.size,
        state,
        detail,
        config: request.config,
    })
}

pub(crate) fn format(call: CallContext<'_>, request: &FormatRequest) -> Result<FormatReport> {
    let settings = Settings::parse(&request.device.class, &request.device.config)?;
    let path = &settings.mount;
    let place = Place::new(path);
    call.check_cancelled()?;
    place.undo()?;
    let mut exists = true;
    // Carried over when our own storage is made anew.
    let mut made_directory = false;
    match place.inspect()? {
        State::Nothing => {
            exists = false;
            made_directory = true;
        }
        State::Empty | State::Unfinished => {}
        State::Ours(marker) => {
            made_directory = marker.made_directory;
            remove(path, &marker)?;
        }
        State::Foreign(what) => {
            let refused = Error::new(Status::FOREIGN, what);
            if path.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
                return Err(refused.remedy("set scm_mount to a directory"));
            }
            if !may_mount() {
                return Err(refused
                    .cause("without CAP_SYS_ADMIN its contents would have to be deleted")
                    .remedy("empty the directory or set scm_mount to another one"));
            }
            if !request.overwrite_foreign {
                return Err(refused.remedy(
                    "empty the directory, or allow foreign content to be overwritten: \
                     the tmpfs is then mounted over it",
                ));
            }
        }
        State::ForeignMount(what) => {
            return Err(
                Error::new(Status::FOREIGN, what).remedy(format!("run: umount {}", path.display()))
            );
        }
    }
    call.progress(0, 1, "ram storage");
    let mut marker = Marker {
        kind: Kind::Mount,
        size: settings.size,
        made_directory,
        numa_node: settings.numa_node.map_or(-1, |n| n as i32),
    };
    let mounted = may_mount() && {
        if !exists {
            make_directory(path)?;
        }
        let mounted = mount_tmpfs(&settings);
        if mounted.is_err() && !exists {
            // The directory is ours and empty; the error is what matters.
            let _ = fs::remove_dir(path);
        }
        mounted?
    };
    if !mounted {
        marker.kind = Kind::Directory;
        check_directory(&settings)?;
        make_directory(path)?;
    }
    let marked = place.mark(&marker);
    if marked.is_err() {
        // Nothing was there before; leave nothing half made.
        if mounted {
            let _ = rustix::mount::unmount(path.as_path(), UnmountFlags::empty());
        } else {
            let _ = place.clear();
        }
        if made_directory {
            let _ = fs::remove_dir(path);
        }
    }
    marked?;
    call.progress(1, 1, "ram storage");
    Ok(FormatReport {
        size: settings.size,
        notes: notes(&settings, marker.kind)?,
    })
}

fn notes(settings: &Settings, kind: Kind) -> Result<Vec<String>> {
    let mut notes = vec!["contents of ram storage are lost when the machine restarts".to_owned()];
    if kind == Kind::Directory {
        notes.push(format!(
            "no privilege to mount: {} is a directory of an existing tmpfs, its size is \
             enforced by the region allocator",
            settings.mount.display()
        ));
    }
    let memory: u64 = nodes::list(Path::new("/"))?.iter().map(|n| n.total).sum();
    if settings.size > memory {
        notes.push(format!(
            "{} MiB are more than the {} MiB of memory that the machine has",
            settings.size >> 20,
            memory >> 20
        ));
    }
    Ok(notes)
}

pub(crate) fn mount(device: &DeviceSpec) -> Result<()> {
    let settings = Settings::parse(&device.class, &device.config)?;
    match Place::new(&settings.mount).inspect()? {
        State::Ours(_) => Ok(()),
        _ => Err(lost(&settings.mount)),
    }
}

/// There is no storage of ours where it ought to be.
pub(crate) fn lost(path: &Path) -> Error {
    Error::new(
        Status::NOT_FOUND,
        format!("there is no ram storage at {}", path.display()),
    )
    .cause("it was never formatted, or its contents were lost with a restart or unmount")
    .remedy("format the storage (reformat, if it held data that is now lost)")
}

pub(crate) fn unmount(device: &DeviceSpec) -> Result<()> {
    let settings = Settings::parse(&device.class, &device.config)?;
    match Place::new(&settings.mount).inspect()? {
        State::Ours(marker) => {
            remove(&settings.mount, &marker)?;
            if marker.made_directory {
                fs::remove_dir(&settings.mount).map_err(|e| {
                    Error::io(format!("cannot remove {}", settings.mount.display()), e)
                })?;
            }
            Ok(())
        }
        State::Unfinished => Place::new(&settings.mount).undo(),
        State::Nothing | State::Empty => Ok(()),
        State::Foreign(what) | State::ForeignMount(what) => Err(Error::new(Status::FOREIGN, what)
            .remedy("nothing was touched; remove it by hand if it may go")),
    }
}

/// Removes storage of ours and its contents; the directory at the mount point stays.
fn remove(path: &Path, marker: &Marker) -> Result<()> {
    let place = Place::new(path);
    let lock = place.lock()?;
    match marker.kind {
        Kind::Mount => {
            // The open lock file would keep the file system busy.
            drop(lock);
            rustix::mount::unmount(path, UnmountFlags::empty()).map_err(|e| {
                let error = Error::io(format!("cannot unmount {}", path.display()), e);
                match e {
                    rustix::io::Errno::BUSY => {
                        error.remedy("stop the processes that have files open there")
                    }
                    rustix::io::Errno::PERM => error.remedy("run as root"),
                    _ => error,
                }
            })
        }
        Kind::Directory => place.clear(),
    }
}

fn may_mount() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Mounts a tmpfs; `false` if the kernel denies it (a container without a mount namespace).
fn mount_tmpfs(settings: &Settings) -> Result<bool> {
    let owner = Owner::caller();
    let mut options = format!(
        "size={}k,mode=0755,uid={},gid={}",
        settings.size >> 10,
        owner.uid,
        owner.gid
    );
    if let Some(node) = settings.numa_node {
        options += &format!(",mpol=prefer:{node}");
    }
    let data = CString::new(options.clone()).map_err(|_| Status::INTERNAL)?;
    let flags = MountFlags::NOATIME | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    match rustix::mount::mount(SOURCE, &settings.mount, "tmpfs", flags, &*data) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::PERM) => Ok(false),
        Err(e) => Err(Error::io(
            format!("cannot mount a tmpfs at {}", settings.mount.display()),
            e,
        )
        .remedy(format!("check the mount options: {options}"))),
    }
}

/// Whether a directory at the mount point can be the storage.
fn check_directory(settings: &Settings) -> Result<()> {
    let path = &settings.mount;
    if !is_tmpfs(path)? {
        return Err(Error::new(
            Status::PERMISSION,
            format!("cannot mount a tmpfs at {}", path.display()),
        )
        .cause("CAP_SYS_ADMIN is missing")
        .remedy("run as root, or set scm_mount to a directory inside a tmpfs such as /dev/shm"));
    }
    let free =
        free_space(path).map_err(|e| Error::io(format!("cannot look at {}", path.display()), e))?;
    if free < settings.size {
        return Err(Error::new(
            Status::NO_SPACE,
            format!("the tmpfs of {} is too small", path.display()),
        )
        .cause(format!(
            "{} MiB are asked for, {} MiB are free",
            settings.size >> 20,
            free >> 20
        ))
        .remedy("lower scm_size, or enlarge the tmpfs"));
    }
    Ok(())
}
