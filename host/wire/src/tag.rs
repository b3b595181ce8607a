//! Tags of the fabric messages.
//!
//! Fabrics carry at least 48 bits. Bits 47..40 hold the kind of the message; the others are zero
//! when sent and ignored when received, so that later versions can route by them.

/// Tag of a request.
pub const REQUEST_TAG: u64 = 0x01 << 40;

/// Tag of a reply. Replies are matched to requests by the request id in their header.
pub const REPLY_TAG: u64 = 0x02 << 40;

/// Bits of a tag that a receiver ignores.
pub const TAG_IGNORE: u64 = (1 << 40) - 1;

const _: () = assert!(REQUEST_TAG < 1 << 48 && REPLY_TAG < 1 << 48);
const _: () = assert!(REQUEST_TAG & TAG_IGNORE == 0 && REPLY_TAG & TAG_IGNORE == 0);
