//! The binary contract: `repr(C)` tables, records and codes.
//!
//! Everything here is plain data. Rules that hold for every member (rules of single
//! members stand beside them):
//!
//! * **Growth.** A table or context that starts with `size`/`version` may grow at its end;
//!   readers look at `size` before they touch a member (`table.has_member`). Records
//!   without a leading size are frozen.
//! * **Ownership.** No type that owns memory crosses. [`Str`] and slices are borrowed for
//!   the duration of the call; output of variable size goes into a host-supplied sink
//!   ([`Call::output`], [`Sink`]). Handles are opaque to the other side and released by
//!   the `close`/`destroy` entry of the table that made them.
//! * **Null.** A null function pointer means "not provided". A null handle is never passed.
//! * **Errors.** Functions return a [`Status`]; control-face functions describe the failure
//!   through [`Call::fail`] before they return it.
//! * **Unwinding.** Nothing unwinds across: the SDK catches panics and returns
//!   [`Status::PANIC`]; C plugins have none.

mod bdev;
mod entry;
mod fabric;
mod plugin;
mod scm;
mod types;

pub use bdev::*;
pub use entry::*;
pub use fabric::*;
pub use plugin::*;
pub use scm::*;
pub use types::*;

/// Major version of the interface: a host loads only plugins of its own major.
pub const ABI_MAJOR: u16 = parse_u16(env!("CARGO_PKG_VERSION_MAJOR"));
/// Minor version of the interface: tables have grown this many times since the major.
pub const ABI_MINOR: u16 = parse_u16(env!("CARGO_PKG_VERSION_MINOR"));

const fn parse_u16(text: &str) -> u16 {
    let bytes = text.as_bytes();
    let mut value = 0u16;
    let mut at = 0;
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u16;
        at += 1;
    }
    value
}

/// Whether the plugin that filled `$table` (a `*const T` or `&T` with a leading `size: u32`)
/// was built with an interface that already had `$member`.
#[macro_export]
macro_rules! has_member {
    ($table:expr, $type:ty, $member:ident) => {{
        let end = ::core::mem::offset_of!($type, $member)
            + $crate::abi::size_of_member(|t: &$type| &t.$member);
        $table.size as usize >= end
    }};
}

/// Size of the member that `select` names; a helper of [`has_member!`](crate::has_member).
#[doc(hidden)]
pub const fn size_of_member<T, M>(_select: fn(&T) -> &M) -> usize {
    core::mem::size_of::<M>()
}
