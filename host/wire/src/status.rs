//! Outcome of a call.

/// Outcome of a call as a reply carries it. Numbers are fixed: never renumbered, only appended.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WireStatus(pub u32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl WireStatus {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Short text; "unknown status" for a number of a newer version.
            pub const fn text(self) -> &'static str {
                match self.0 { $($value => $text,)* _ => "unknown status" }
            }
        }
    };
}

statuses! {
    /// Done; for changes: durable.
    OK = 0, "ok";
    /// The request is malformed or a field is out of range.
    INVALID = 1, "invalid request";
    /// Nothing is stored under these keys. With a text: the pool or container does not exist.
    NOT_FOUND = 2, "not found";
    /// No space left on the block device, in the log, in the index, or in the pool. Nothing changed.
    NO_SPACE = 3, "no space left";
    /// The stored value does not match its checksum: the medium lost or changed it.
    CORRUPT = 4, "stored value is corrupt";
    /// The value that arrived does not match the checksum in the request. Nothing changed.
    DAMAGED = 5, "value was damaged on its way";
    /// A device failed the operation; for changes, whether they happened is unknown.
    IO = 6, "I/O error";
    /// The device of this target is gone.
    DEVICE_GONE = 7, "device gone";
    /// The value is larger than what the request has room for; the reply's value length tells how
    /// large. Repeat with memory for it.
    NO_ROOM = 8, "value is larger than the room offered";
    /// The dkey belongs to another target: the client has an outdated address list.
    WRONG_TARGET = 9, "key belongs to another target";
    /// The engine cannot take more now. Repeat later.
    BUSY = 10, "busy";
    /// The engine does not know this operation.
    NOT_SUPPORTED = 11, "operation not supported";
    /// The engine speaks another version of the layout.
    VERSION = 12, "protocol version differs";
    /// The client's memory could not be reached for RMA.
    UNREACHABLE = 13, "client memory could not be reached";
    /// The engine is about to stop. Nothing changed.
    STOPPING = 14, "engine is stopping";
    /// A defect of the engine.
    INTERNAL = 15, "internal error of the engine";
    /// A change that its client has settled arrived late. Nothing changed.
    STALE = 16, "request is older than what its client has settled";
    /// A container of that UUID or label exists, with other properties.
    EXISTS = 17, "exists already";
    /// The akey holds a single value where the request means an array, or the other way round, or
    /// an array with records of another size. Nothing changed.
    KIND = 24, "the akey holds another kind of value";
}

impl WireStatus {
    /// Whether this is [`WireStatus::OK`].
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }
}

impl core::fmt::Debug for WireStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.text(), self.0)
    }
}

impl core::fmt::Display for WireStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}
