//! Sizes and offsets of every record and table of the interface.

use daos_plugin_api::abi::*;
use std::mem::{align_of, offset_of, size_of};

/// Layout of one type.
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) fields: Vec<(&'static str, usize)>,
}

macro_rules! records {
    ($($type:ident { $($field:ident),* $(,)? })*) => {
        /// Every `repr(C)` struct that crosses.
        pub(crate) fn records() -> Vec<Record> {
            $(
                // Fails to compile when a member is missing from the list.
                let _: fn($type) = |value| { let $type { $($field: _),* } = value; };
            )*
            vec![$(Record {
                name: stringify!($type),
                size: size_of::<$type>(),
                align: align_of::<$type>(),
                fields: vec![$((stringify!($field), offset_of!($type, $field))),*],
            }),*]
        }
    };
}

records! {
    Str { ptr, len }
    Sink { ctx, write }
    ErrorInfo { status, reserved, what, cause, remedy }
    Call { size, version, ctx, deadline_ms, progress, cancelled, fail, output }
    HostServices {
        size, version, ctx, flags, log_level, log, metric_register, metric_record, json_u64,
        json_str
    }
    Wait { kind, fd, timeout_us }
    IoVec { ptr, len }
    Request { op, flags, reserved, iov_count, lba, blocks, iov, tag, scratch }
    Completion { tag, status, reserved }
    BdevGeometry {
        block_size, buffer_alignment, block_count, max_transfer_blocks, max_segments,
        atomic_write_blocks, deallocate_granularity, max_queues, max_queue_depth, scratch_size,
        numa_node, admin_poll_us, reserved, flags
    }
    BdevEvent { kind, reserved, value }
    BdevTable {
        size, version, open, close, geometry, poll_admin, next_event, reset, open_queue,
        close_queue, submit, poll, abort, reconnect, arm_wait, memory_alloc, memory_free,
        memory_register, memory_unregister
    }
    ScmRegion { handle, ptr, len }
    ScmInfo { total, available, persist_granularity, numa_node, flags }
    ScmTable {
        size, version, open, close, info, mount_point, open_region, close_region, remove_region,
        persist, flush, drain
    }
    FabricRequest {
        op, reserved, peer, tag, ignore, ptr, len, descriptor, remote_addr, remote_key, user,
        scratch
    }
    FabricCompletion { user, tag, len, status, op, reserved }
    MemoryRegion { handle, descriptor, key, base }
    FabricInfo {
        max_message, max_rma, max_address, scratch_size, max_endpoints, max_outstanding, tag_bits,
        numa_node, flags
    }
    FabricTable {
        size, version, open, close, info, register, unregister, open_endpoint, close_endpoint,
        address, resolve, release, submit, poll, cancel, arm_wait
    }
    PluginTable {
        size, abi_major, abi_minor, manifest, create, destroy, thread_attach, thread_detach,
        control, device_admin, bdev, scm, fabric
    }
    ControlTable {
        size, version, validate, scan, prepare, release, devices, format, mount, unmount, health,
        firmware, quiesce
    }
    DeviceAdminTable { size, version, identity, health }
    NoteHeader { abi_major, abi_minor, flags, json_len }
}
