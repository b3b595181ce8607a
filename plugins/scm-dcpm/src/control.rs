//! The control face: devices, format, mount, unmount.

use crate::block::{BlockDevice, Medium, id_of};
use crate::ext4;
use crate::manifest::Settings;
use crate::marker::{Contents, Directory, Marker};
use crate::storage::{Source, State};
use daos_plugin_api::abi::Status;
use daos_plugin_api::control::{
    ClassRequest, DeviceSpec, DeviceState, FormatReport, FormatRequest,
};
use daos_plugin_api::sdk::{CallContext, Error, Result};
use rustix::fs::OFlags;
use scm_files::mounts;
use scm_files::tree::{free_space, make_directory};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(crate) fn devices(mut request: ClassRequest) -> Result<DeviceSpec> {
    let mut settings = Settings::parse(&request.class, &request.config)?;
    if settings.source.is_none() {
        let Some(device) = formatted_for(&settings.mount)? else {
            return Ok(DeviceSpec {
                class: request.class,
                index: 0,
                address: settings.mount.display().to_string(),
                size: 0,
                state: DeviceState::Absent,
                detail: String::new(),
                config: request.config,
            });
        };
        // From here on it is as if it were written there.
        let list = Value::from(vec![device.display().to_string()]);
        request.config.insert("scm_list".to_owned(), list);
        settings.source = Some(device);
    }
    let source = Source::of(&settings)?;
    let (state, detail) = match source.inspect(&settings.mount)? {
        State::Blank => (DeviceState::Absent, String::new()),
        State::Foreign(what) => (DeviceState::Absent, foreign(&settings, &source, what)),
        // What an interrupted format left is found when it is mounted: there is nothing in it.
        State::Unmounted => (DeviceState::Present, String::new()),
        State::Unfinished => match source {
            Source::Device(_) => (DeviceState::Present, String::new()),
            _ => (DeviceState::Absent, String::new()),
        },
        State::Ready(_) => match Directory::new(&settings.mount).holder()? {
            None => (DeviceState::Present, String::new()),
            Some(holder) => (DeviceState::InUse, format!("{holder} has it open")),
        },
        State::InUse(who) => (DeviceState::InUse, who),
        State::Missing(why) => (DeviceState::Missing, why),
    };
    let size = match &source {
        Source::Device(device) => device.size,
        Source::Directory { limit } => *limit,
        Source::Missing(_) => 0,
    };
    Ok(DeviceSpec {
        class: request.class,
        index: 0,
        // What an engine's files are on, and what results of a format are told by.
        address: settings.mount.display().to_string(),
        size,
        state,
        detail,
        config: request.config,
    })
}

/// The namespace that holds the file system made for a mount point.
///
/// # Errors
/// Several do, or they cannot be read.
fn formatted_for(mount: &Path) -> Result<Option<PathBuf>> {
    let found = BlockDevice::made_for(&id_of(mount))?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let names: Vec<String> = several.iter().map(|d| d.display().to_string()).collect();
            Err(Error::new(
                Status::INVALID,
                format!(
                    "{} hold file systems that were made for {}",
                    names.join(" and "),
                    mount.display()
                ),
            )
            .remedy("name the right one under scm_list, or, if its contents may go, wipefs --all the other"))
        }
    }
}

/// What is foreign, and where: what was found on a device does not say on which.
fn foreign(settings: &Settings, source: &Source, what: String) -> String {
    match source {
        Source::Device(_) => format!("{} holds {what}", settings.shown()),
        _ => what,
    }
}

pub(crate) fn format(call: CallContext<'_>, request: &FormatRequest) -> Result<FormatReport> {
    let settings = Settings::parse(&request.device.class, &request.device.config)?;
    let source = Source::of(&settings)?;
    call.check_cancelled()?;
    let state = source.inspect(&settings.mount)?;
    match (&source, &state) {
        (_, State::Missing(why)) => {
            return Err(Error::new(Status::NOT_FOUND, why.clone()));
        }
        (_, State::InUse(who)) => {
            return Err(Error::new(Status::BUSY, who.clone())
                .remedy("unmount it, if its contents may go; nothing was touched"));
        }
        (Source::Directory { .. }, State::Foreign(what)) => {
            return Err(Error::new(Status::FOREIGN, what.clone())
                .cause("its contents would have to be deleted")
                .remedy("empty the directory or set scm_mount to another one"));
        }
        (_, State::Foreign(what)) if !request.overwrite_foreign => {
            return Err(Error::new(
                Status::FOREIGN,
                foreign(&settings, &source, what.clone()),
            )
            .remedy(
                "check that it is the right device; allow foreign content to be overwritten if it \
                 may go",
            ));
        }
        _ => {}
    }
    match &source {
        Source::Device(device) => {
            format_device(call, device, &settings, state, request.overwrite_foreign)
        }
        Source::Directory { limit } => format_directory(&settings, state, *limit),
        Source::Missing(why) => Err(Error::new(Status::NOT_FOUND, why.clone())),
    }
}

fn format_directory(settings: &Settings, state: State, limit: u64) -> Result<FormatReport> {
    let path = &settings.mount;
    let directory = Directory::new(path);
    let mut made_directory = false;
    match state {
        State::Ready(_) => {
            let _lock = directory.lock()?;
            directory.clear()?;
        }
        State::Unfinished => directory.undo()?,
        _ => made_directory = path.symlink_metadata().is_err(),
    }
    let free =
        free_space(path).map_err(|e| Error::io(format!("cannot look at {}", path.display()), e))?;
    if free < limit {
        return Err(Error::new(
            Status::NO_SPACE,
            format!("the file system of {} is too small", path.display()),
        )
        .cause(format!(
            "{} MiB are asked for, {} MiB are free",
            limit >> 20,
            free >> 20
        ))
        .remedy("lower scm_size"));
    }
    make_directory(path)?;
    let marked = directory.mark(&Marker {
        limit: Some(limit),
        made_directory,
    });
    if marked.is_err() {
        // Nothing was there before; leave nothing half made.
        let _ = directory.undo();
        if made_directory {
            let _ = fs::remove_dir(path);
        }
    }
    marked?;
    let mut notes = Vec::new();
    if !ext4::is_direct(path)? {
        notes.push(format!(
            "stores are made durable with msync, which is slow: {}",
            ext4::why_not_direct(&Medium::of(path)?)
        ));
    }
    notes.extend(other_node(settings, path)?);
    Ok(FormatReport { size: limit, notes })
}

fn format_device(
    call: CallContext<'_>,
    device: &BlockDevice,
    settings: &Settings,
    state: State,
    overwrite: bool,
) -> Result<FormatReport> {
    let path = &settings.mount;
    let steps = 3;
    let mut made_directory = false;
    match state {
        State::Ready(marker) => {
            // Held only for the look: the open file would keep the file system busy.
            drop(Directory::new(path).lock()?);
            made_directory = marker.made_directory;
            ext4::unmount(path)?;
        }
        State::Unfinished => ext4::unmount(path)?,
        _ => {}
    }
    made_directory |= mount_point(path, overwrite)?;
    let made = (|| {
        idle(device)?;
        call.check_cancelled()?;
        call.progress(0, steps, "making an ext4 file system");
        ext4::make(device, &id_of(path))?;
        call.progress(1, steps, "mounting it with direct access");
        ext4::mount(&device.path, path)
    })();
    if made.is_err() && made_directory {
        // It is ours and empty; the error is what matters.
        let _ = fs::remove_dir(path);
    }
    made?;
    call.progress(2, steps, "trying direct access");
    let marked = ext4::is_direct(path).and_then(|direct| {
        if !direct {
            return Err(Error::new(
                Status::NOT_SUPPORTED,
                format!(
                    "{} is mounted, but access is not direct",
                    device.path.display()
                ),
            )
            .cause(ext4::why_not_direct(&Medium::of(path)?))
            .remedy("see the kernel's log (dmesg); make the namespace anew with mode fsdax"));
        }
        Directory::new(path).mark(&Marker {
            limit: None,
            made_directory,
        })
    });
    if marked.is_err() {
        // What it was good for is not there; the error is what matters.
        let _ = ext4::unmount(path);
        if made_directory {
            let _ = fs::remove_dir(path);
        }
    }
    marked?;
    call.progress(steps, steps, "direct access works");
    let mut notes = Vec::new();
    if settings.size.is_some() {
        notes.push(format!(
            "scm_size is not used: {} is used as a whole",
            device.path.display()
        ));
    }
    notes.extend(other_node(settings, path)?);
    Ok(FormatReport {
        size: device.size,
        notes,
    })
}

/// Makes sure that a file system can be mounted at `path`; `true` if the directory was made for it.
fn mount_point(path: &Path, overwrite: bool) -> Result<bool> {
    if let Some(other) = mounts::mounted(path)? {
        return Err(Error::new(
            Status::FOREIGN,
            format!(
                "another file system ({} from {}) is mounted at {}",
                other.kind,
                other.source,
                path.display()
            ),
        )
        .remedy(format!("run: umount {}", path.display())));
    }
    match Directory::new(path).inspect()? {
        Contents::Absent => {
            make_directory(path)?;
            Ok(true)
        }
        Contents::Empty => Ok(false),
        _ if !path.is_dir() => Err(Error::new(
            Status::FOREIGN,
            format!("{} is not a directory", path.display()),
        )
        .remedy("set scm_mount to a directory")),
        // They stay, hidden below the mount, and come back with its end.
        _ if overwrite => Ok(false),
        _ => Err(Error::new(
            Status::FOREIGN,
            format!("{} is not empty", path.display()),
        )
        .remedy(
            "empty the directory, or allow foreign content to be overwritten: the file system is then \
             mounted over it",
        )),
    }
}

/// Refuses a device that the kernel or another process holds.
fn idle(device: &BlockDevice) -> Result<()> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::EXCL.bits() as i32)
        .open(&device.path)
        .map(drop)
        .map_err(|e| {
            let error = Error::io(format!("cannot take {}", device.path.display()), e);
            match error.status {
                Status::BUSY => error.remedy(
                    "something holds it: a mount in another mount namespace, LVM, swap, or a process",
                ),
                Status::PERMISSION => error.remedy("run as root"),
                _ => error,
            }
        })
}

/// A remark if the engine runs on another node than its memory.
fn other_node(settings: &Settings, path: &Path) -> Result<Option<String>> {
    let node = Medium::of(path)?.numa_node;
    Ok(settings
        .numa_node
        .filter(|wanted| node >= 0 && i64::from(*wanted) != i64::from(node))
        .map(|wanted| {
            format!(
                "{} is memory of NUMA node {node}, and the engine is pinned to node {wanted}: each \
                 access goes through the other socket",
                settings.shown()
            )
        }))
}

pub(crate) fn mount(device: &DeviceSpec) -> Result<()> {
    let settings = Settings::parse(&device.class, &device.config)?;
    let source = Source::of(&settings)?;
    let path = &settings.mount;
    match source.inspect(path)? {
        State::Ready(_) => return Ok(()),
        State::Unmounted => {}
        State::InUse(who) => return Err(Error::new(Status::BUSY, who)),
        _ => return Err(lost(&settings)),
    }
    let Source::Device(block) = &source else {
        return Err(lost(&settings));
    };
    // What lies below was hidden by the same mount before.
    let made_directory = mount_point(path, true)?;
    ext4::mount(&block.path, path)?;
    if !matches!(Directory::new(path).inspect()?, Contents::Ours(_)) {
        ext4::unmount(path)?;
        if made_directory {
            // It is ours and empty.
            let _ = fs::remove_dir(path);
        }
        return Err(lost(&settings));
    }
    Ok(())
}

/// There is no storage of ours where it ought to be.
pub(crate) fn lost(settings: &Settings) -> Error {
    Error::new(
        Status::NOT_FOUND,
        format!(
            "there is no storage of ours on {} for {}",
            settings.shown(),
            settings.mount.display()
        ),
    )
    .cause("it was never formatted, or its format was interrupted")
    .remedy("format the storage")
}

pub(crate) fn unmount(device: &DeviceSpec) -> Result<()> {
    let settings = Settings::parse(&device.class, &device.config)?;
    let source = Source::of(&settings)?;
    let path = &settings.mount;
    match (source.inspect(path)?, source) {
        (State::Ready(_), Source::Directory { .. }) => {
            // Nothing is mounted; whoever has it open must still be told.
            Directory::new(path).lock().map(drop)
        }
        (State::Ready(marker), _) => {
            drop(Directory::new(path).lock()?);
            ext4::unmount(path)?;
            if marker.made_directory {
                fs::remove_dir(path)
                    .map_err(|e| Error::io(format!("cannot remove {}", path.display()), e))?;
            }
            Ok(())
        }
        (State::Unfinished, Source::Device(_)) => ext4::unmount(path),
        (State::InUse(who), _) => {
            Err(Error::new(Status::BUSY, who).remedy("nothing was touched; unmount it by hand"))
        }
        _ => Ok(()),
    }
}
