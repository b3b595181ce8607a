//! A plugin's tables as this host knows them: members that came after the plugin's version are null.
//!
//! A table of an older plugin is shorter than this host's type, so a reference to it would reach beyond its
//! end. It is copied once into a value of today's size whose other members are null, which is "not provided" to
//! whoever calls. All of the first version's members are there, and those that must be provided are, or the table is
//! refused: C leaves null what is not named.

use crate::abi::{
    ABI_MAJOR, ABI_MINOR, BdevTable, ControlTable, DeviceAdminTable, FabricTable, PluginTable,
    ScmTable, Status,
};
use crate::sdk::Error;
use std::mem::{MaybeUninit, size_of};

/// A member of a table.
#[derive(Clone, Copy)]
struct Member {
    name: &'static str,
    /// Where it ends, in bytes from the table's start.
    end: usize,
    /// Minor version that it came with.
    minor: u16,
    /// A function that every plugin provides: never null.
    required: bool,
}

/// A table that grows at its end.
///
/// # Safety
/// `repr(C)`; the first member is `size: u32`; `MEMBERS` are all members in their order, and each that came after
/// the first version may be all zeroes.
unsafe trait Table: Sized + 'static {
    const NAME: &'static str;
    const MEMBERS: &'static [Member];
}

/// Members are `data`, a `call` that every plugin provides, or an `option`; later ones are options.
macro_rules! table {
    ($type:ident { $($first:ident: $kind:ident),+ $(,)? } $(since $minor:literal { $($later:ident),+ $(,)? })*) => {
        // SAFETY: `abi` defines it so; what follows does not compile with a member missing or of another kind, and
        // later members are optional function pointers.
        unsafe impl Table for $type {
            const NAME: &'static str = stringify!($type);
            const MEMBERS: &'static [Member] = {
                let _complete: fn($type) = |table| {
                    let $type { $($first: _,)+ $($($later: _,)+)* } = table;
                    $(is_of_kind!($kind, table.$first);)+
                    $($(is_of_kind!(option, table.$later);)+)*
                };
                &[
                    $(member!($type, $first, 0, is_required!($kind)),)+
                    $($(member!($type, $later, $minor, false),)+)*
                ]
            };
        }
    };
}

macro_rules! member {
    ($type:ident, $name:ident, $minor:literal, $required:expr) => {
        Member {
            name: stringify!($name),
            end: end!($type, $name),
            minor: $minor,
            required: $required,
        }
    };
}

macro_rules! is_required {
    (call) => {
        true
    };
    ($other:ident) => {
        false
    };
}

macro_rules! is_of_kind {
    (option, $member:expr) => {
        let _: Option<_> = $member;
    };
    // Compiles for functions, not for options.
    (call, $member:expr) => {
        let _ = $member as *const ();
    };
    (data, $member:expr) => {
        let _ = $member;
    };
}

macro_rules! end {
    ($type:ident, $member:ident) => {
        std::mem::offset_of!($type, $member) + crate::abi::size_of_member(|t: &$type| &t.$member)
    };
}

table!(PluginTable {
    size: data,
    abi_major: data,
    abi_minor: data,
    manifest: data,
    create: call,
    destroy: call,
    thread_attach: option,
    thread_detach: option,
    control: data,
    device_admin: data,
    bdev: data,
    scm: data,
    fabric: data,
});
table!(ControlTable {
    size: data,
    version: data,
    validate: option,
    scan: option,
    prepare: option,
    release: option,
    devices: option,
    format: option,
    mount: option,
    unmount: option,
    health: option,
    firmware: option,
} since 1 { quiesce });
table!(DeviceAdminTable {
    size: data,
    version: data,
    identity: option,
    health: option,
});
table!(BdevTable {
    size: data,
    version: data,
    open: call,
    close: call,
    geometry: call,
    poll_admin: option,
    next_event: option,
    reset: option,
    open_queue: call,
    close_queue: call,
    submit: call,
    poll: call,
    abort: option,
    reconnect: option,
    arm_wait: call,
    memory_alloc: option,
    memory_free: option,
    memory_register: option,
    memory_unregister: option,
});
table!(ScmTable {
    size: data,
    version: data,
    open: call,
    close: call,
    info: call,
    mount_point: call,
    open_region: call,
    close_region: call,
    remove_region: call,
    persist: call,
    flush: call,
    drain: call,
});
table!(FabricTable {
    size: data,
    version: data,
    open: call,
    close: call,
    info: call,
    register: call,
    unregister: call,
    open_endpoint: call,
    close_endpoint: call,
    address: call,
    resolve: call,
    release: call,
    submit: call,
    poll: call,
    cancel: call,
    arm_wait: call,
});

/// The tables of a plugin.
pub(super) struct Tables {
    pub(super) control: &'static ControlTable,
    pub(super) device_admin: Option<&'static DeviceAdminTable>,
    pub(super) bdev: Option<&'static BdevTable>,
    pub(super) scm: Option<&'static ScmTable>,
    pub(super) fabric: Option<&'static FabricTable>,
}

impl Tables {
    /// Those that `root` leads to.
    ///
    /// # Errors
    /// INVALID: another major version, no control table, or a table without all members of the first version.
    pub(super) fn of(root: &'static PluginTable) -> Result<Self, Error> {
        if root.abi_major != ABI_MAJOR {
            return Err(other_major(root));
        }
        let version = Some((root.abi_major, root.abi_minor));
        // SAFETY: the pointers are null or lead to static tables of the plugin, which start with their size.
        unsafe {
            known(root, version)?;
            Ok(Self {
                control: known(root.control.0, version)?.ok_or_else(|| {
                    Error::new(Status::INVALID, "the plugin has no control table")
                })?,
                device_admin: known(root.device_admin.0, version)?,
                bdev: known(root.bdev.0, version)?,
                scm: known(root.scm.0, version)?,
                fabric: known(root.fabric.0, version)?,
            })
        }
    }
}

/// The root table that a plugin's entry gave, as this host knows it.
///
/// # Errors
/// INVALID: there is none, it lacks members of the first version, or it is of another major version.
///
/// # Safety
/// `pointer` is null or leads to what a plugin that stays mapped for the life of the process calls its root
/// table; of every version that starts with its size.
pub unsafe fn plugin_table(pointer: *const PluginTable) -> Result<&'static PluginTable, Error> {
    // SAFETY: the caller vouches for it.
    let table = unsafe { known(pointer, None) }?.ok_or_else(|| {
        let what = format!("the plugin has no table for interface {ABI_MAJOR}.{ABI_MINOR}");
        Error::new(Status::INVALID, what)
    })?;
    if table.abi_major == ABI_MAJOR {
        Ok(table)
    } else {
        Err(other_major(table))
    }
}

fn other_major(root: &PluginTable) -> Error {
    let what = format!(
        "the plugin is built for interface {}.{}, this host speaks {ABI_MAJOR}.{ABI_MINOR}",
        root.abi_major, root.abi_minor
    );
    Error::new(Status::INVALID, what).remedy("install a build of the plugin for this host")
}

/// The table at `pointer`, or a copy of today's size; `None` for null. `version` is the plugin's, for messages.
///
/// # Safety
/// `pointer` is null or leads to a static table that starts with its size.
unsafe fn known<T: Table>(
    pointer: *const T,
    version: Option<(u16, u16)>,
) -> Result<Option<&'static T>, Error> {
    if pointer.is_null() {
        return Ok(None);
    }
    if !pointer.is_aligned() {
        let what = format!("the plugin's {} is not aligned", T::NAME);
        return Err(Error::new(Status::INVALID, what).remedy(REBUILD));
    }
    // SAFETY: the table starts with its size.
    let have = unsafe { pointer.cast::<u32>().read() } as usize;
    let whole = T::MEMBERS.iter().take_while(|member| member.end <= have);
    let count = whole.clone().count();
    if let Some(member) = T::MEMBERS.get(count).filter(|member| member.minor == 0) {
        let of = version.map_or_else(String::new, |(major, minor)| format!(" {major}.{minor}"));
        let what = format!(
            "interface{of} of the plugin and {ABI_MAJOR}.{ABI_MINOR} of this host differ in `{}.{}`",
            T::NAME,
            member.name
        );
        let cause = format!(
            "the plugin's table has {have} bytes, those of interface {ABI_MAJOR}.0 go on to {} and beyond",
            member.end
        );
        return Err(Error::new(Status::INVALID, what)
            .cause(cause)
            .remedy(REBUILD));
    }
    // Before there is a reference: a function that is null is none.
    for member in whole.clone().filter(|member| member.required) {
        let at = member.end - size_of::<*const ()>();
        // SAFETY: within what the plugin filled; a function pointer is as large as this, and aligned like it.
        let function = unsafe { pointer.cast::<u8>().add(at).cast::<*const ()>().read() };
        if function.is_null() {
            let what = format!("`{}.{}` of the plugin is null", T::NAME, member.name);
            return Err(Error::new(Status::INVALID, what)
                .cause("every plugin with this table provides that function")
                .remedy("name it in the table"));
        }
    }
    if have >= size_of::<T>() {
        // SAFETY: static, without null where there is none, aligned, and as large as this host's type.
        return Ok(Some(unsafe { &*pointer }));
    }
    let bytes = whole.last().map_or(0, |member| member.end);
    let mut table = MaybeUninit::<T>::zeroed();
    // SAFETY: the plugin filled at least so many bytes, and they end with a whole member; the rest are members
    // of later versions, which may be all zeroes.
    let table = unsafe {
        let to = table.as_mut_ptr().cast::<u8>();
        to.copy_from_nonoverlapping(pointer.cast::<u8>(), bytes);
        table.assume_init()
    };
    // As long-lived as the plugin's own, which is never unloaded; one per instance.
    Ok(Some(Box::leak(Box::new(table))))
}

const REBUILD: &str = "rebuild the plugin with the released header or SDK";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{CallPtr, Handle, Str};

    unsafe extern "C" fn nothing(_: Handle, _: CallPtr, _: Str) -> Status {
        Status::OK
    }

    fn control(size: usize) -> &'static ControlTable {
        Box::leak(Box::new(ControlTable {
            size: size as u32,
            version: 0,
            validate: Some(nothing),
            scan: None,
            prepare: None,
            release: None,
            devices: None,
            format: None,
            mount: None,
            unmount: None,
            health: None,
            firmware: Some(nothing),
            quiesce: Some(nothing),
        }))
    }

    fn read(size: usize) -> Result<&'static ControlTable, Error> {
        // SAFETY: a static table of at least that size.
        unsafe { known(control(size), Some((1, 0))) }.map(|table| table.expect("not null"))
    }

    #[test]
    fn what_a_table_of_the_first_version_lacks_is_null() {
        let first = end!(ControlTable, firmware);
        // What lies behind the size is nobody's business: it is another static of the plugin.
        for size in [first, first + 4, size_of::<ControlTable>() - 1] {
            let table = read(size).expect("known");
            assert!(table.quiesce.is_none(), "{size}");
            assert!(table.firmware.is_some() && table.validate.is_some());
            assert_eq!(table.size as usize, size);
        }
        let today = read(size_of::<ControlTable>()).expect("known");
        assert!(today.quiesce.is_some());
        let later = read(size_of::<ControlTable>() + 8).expect("known");
        assert!(later.quiesce.is_some());
    }

    #[test]
    fn a_table_without_all_of_the_first_version_is_refused_by_member_and_versions() {
        let first = end!(ControlTable, firmware);
        let text = read(first - 1).err().expect("refused").to_string();
        assert!(text.contains("`ControlTable.firmware`"), "{text}");
        let today = format!("{ABI_MAJOR}.{ABI_MINOR} of this host");
        assert!(
            text.contains("1.0 of the plugin") && text.contains(&today),
            "{text}"
        );
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        let text = read(0).err().expect("refused").to_string();
        assert!(text.contains("`ControlTable.size`"), "{text}");
    }

    #[test]
    fn a_function_that_must_be_there_and_is_null_is_refused_by_name() {
        // What C makes of a table in which hardly anything is named.
        let mut words = [0usize; size_of::<BdevTable>().div_ceil(size_of::<usize>())];
        words[0] = size_of::<BdevTable>(); // little-endian: the size, and version 0
        let words = Box::leak(Box::new(words));
        let read = |words: &[usize]| {
            // SAFETY: as large as a table, static, and begins with its size.
            unsafe { known(words.as_ptr().cast::<BdevTable>(), Some((1, 1))) }.map(|t| t.is_some())
        };
        let mut refused = 0;
        for member in BdevTable::MEMBERS.iter().filter(|m| m.required) {
            let text = read(words).expect_err("refused").to_string();
            assert!(
                text.contains(&format!("`BdevTable.{}`", member.name)),
                "{text}"
            );
            words[member.end / size_of::<usize>() - 1] = 1;
            refused += 1;
        }
        assert_eq!(refused, 8);
    }

    #[test]
    fn members_fill_their_tables() {
        fn check<T: Table>() {
            let last = T::MEMBERS.last().expect("members");
            assert_eq!(last.end, size_of::<T>(), "{}", T::NAME);
            assert!(
                T::MEMBERS.is_sorted_by(|a, b| a.end < b.end && a.minor <= b.minor),
                "{}",
                T::NAME
            );
            assert!(last.minor <= ABI_MINOR, "{}", T::NAME);
        }
        check::<PluginTable>();
        check::<ControlTable>();
        check::<DeviceAdminTable>();
        check::<BdevTable>();
        check::<ScmTable>();
        check::<FabricTable>();
    }
}
