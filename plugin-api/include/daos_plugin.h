/*
 * The interface between a DAOS storage-node daemon and its SCM, block-device and fabric plugins.
 *
 * Generated from the Rust definitions in plugin-api/src/abi; do not edit. To make it anew:
 *     UPDATE=1 cargo test -p daos-plugin-api --test c_header
 *
 * A plugin in C includes this file, states its manifest with DAOS_PLUGIN_MANIFEST, fills the tables
 * and defines daos_plugin_entry_v1. "daos_server plugin new bdev-acme --c" writes a whole one.
 */
#ifndef DAOS_PLUGIN_H
#define DAOS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Major version of the interface: a host loads only plugins of its own major. */
#define DAOS_ABI_MAJOR 1
/** Minor version of the interface: tables have grown this many times since the major. */
#define DAOS_ABI_MINOR 1

typedef const struct daos_control_table *daos_control_table_ptr;
typedef const struct daos_device_admin_table *daos_device_admin_table_ptr;
typedef const struct daos_bdev_table *daos_bdev_table_ptr;
typedef const struct daos_scm_table *daos_scm_table_ptr;
typedef const struct daos_fabric_table *daos_fabric_table_ptr;

/** Success. */
#define DAOS_STATUS_OK 0
/** An argument, config value or request is malformed or out of range. */
#define DAOS_STATUS_INVALID 1
/** The named object does not exist. */
#define DAOS_STATUS_NOT_FOUND 2
/** The named object exists already. */
#define DAOS_STATUS_EXISTS 3
/** No space left on the device, file system or in the region allocator. */
#define DAOS_STATUS_NO_SPACE 4
/** Not enough memory. */
#define DAOS_STATUS_NO_MEMORY 5
/** The device or transport failed the operation. */
#define DAOS_STATUS_IO 6
/** The medium reported an uncorrectable error at this address. */
#define DAOS_STATUS_MEDIA 7
/** The device was removed; every later request fails in the same way. */
#define DAOS_STATUS_DEVICE_GONE 8
/** A deadline passed. */
#define DAOS_STATUS_TIMED_OUT 9
/** The host asked to stop, or abort/cancel hit this request. */
#define DAOS_STATUS_CANCELLED 10
/** The object is in use. */
#define DAOS_STATUS_BUSY 11
/** The plugin or device has no such function. */
#define DAOS_STATUS_NOT_SUPPORTED 12
/** Missing privilege. */
#define DAOS_STATUS_PERMISSION 13
/** Plugin code panicked; the instance is poisoned. */
#define DAOS_STATUS_PANIC 14
/** An earlier call on this object panicked; it is not called again. */
#define DAOS_STATUS_POISONED 15
/** The device was reset while the request was outstanding; its effect is unknown. */
#define DAOS_STATUS_RESET 16
/** compare found other data. */
#define DAOS_STATUS_MISCOMPARE 17
/** Storage holds something that we did not write. */
#define DAOS_STATUS_FOREIGN 18
/** The peer is not reachable (any more). */
#define DAOS_STATUS_UNREACHABLE 19
/** A received message was longer than the buffer. */
#define DAOS_STATUS_TRUNCATED 20
/** A defect of the plugin: a broken invariant of its own. */
#define DAOS_STATUS_INTERNAL 21
/** The queue cannot take more now; submit again after polling. */
#define DAOS_STATUS_AGAIN 22
/** A remote memory access was refused (bad key, range or right). */
#define DAOS_STATUS_ACCESS 23

/**
 * Flags of daos_scm_table.open_region.
 */
#define DAOS_SCM_CREATE 1

/**
 * Rights of a registration.
 */
#define DAOS_FABRIC_LOCAL 1

/**
 * Peers may read the memory.
 */
#define DAOS_FABRIC_REMOTE_READ 2

/**
 * Peers may write the memory.
 */
#define DAOS_FABRIC_REMOTE_WRITE 4

/**
 * Type of the note.
 */
#define DAOS_NOTE_TYPE 1347179847

/**
 * Flag in daos_note_header.flags: built with panic=abort, so panics cannot be contained.
 */
#define DAOS_NOTE_PANIC_ABORT 1

/**
 * Flag in daos_note_header.flags: has a Rust root module (else only the C entry).
 */
#define DAOS_NOTE_RUST 2

/**
 * Borrowed UTF-8 text: ptr may be null when len is 0. Valid for the duration of the call
 * unless the member that carries it says otherwise.
 */
typedef struct daos_str {
  /**
   * First byte; no terminating zero.
   */
  const uint8_t *ptr;
  /**
   * Length in bytes.
   */
  uintptr_t len;
} daos_str;

/**
 * Result code of every table function. Fixed numbers: never renumbered, only appended.
 */
typedef int32_t daos_status;

/**
 * Log levels of daos_host_services.log: the smaller, the more urgent.
 */
typedef uint32_t daos_log_level;
/**
 * Something failed.
 */
#define DAOS_LOG_LEVEL_ERROR 1
/**
 * Something is wrong that did not fail (yet).
 */
#define DAOS_LOG_LEVEL_WARN 2
/**
 * What an administrator wants to see once.
 */
#define DAOS_LOG_LEVEL_INFO 3
/**
 * For who looks for a cause.
 */
#define DAOS_LOG_LEVEL_DEBUG 4
/**
 * Everything.
 */
#define DAOS_LOG_LEVEL_TRACE 5

/**
 * Kinds of metrics a plugin can register.
 */
typedef uint32_t daos_metric_kind;
/**
 * Only grows; record adds.
 */
#define DAOS_METRIC_KIND_COUNTER 1
/**
 * Goes up and down; record sets.
 */
#define DAOS_METRIC_KIND_GAUGE 2
/**
 * Distribution; record adds an observation.
 */
#define DAOS_METRIC_KIND_HISTOGRAM 3

/**
 * Receiver of output of variable size. write may be called several times; the bytes are
 * concatenated.
 */
typedef struct daos_sink {
  /**
   * Passed back to write.
   */
  void *ctx;
  /**
   * Appends len bytes.
   */
  void (*write)(void *ctx, const uint8_t *data, uintptr_t len);
} daos_sink;

/**
 * What the host offers to a plugin. Handed to create, valid until destroy returns; all
 * functions are safe to call from any thread.
 */
typedef struct daos_host_services {
  /**
   * Bytes of this struct that the host filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the host.
   */
  uint32_t version;
  /**
   * Passed back to the functions below.
   */
  void *ctx;
  /**
   * DAOS_HOST_SERVICES_BUILT_IN when the plugin is linked into the host's own binary.
   */
  uint64_t flags;
  /**
   * Most detailed level that anybody listens to; finer messages need not be formatted.
   */
  daos_log_level (*log_level)(void *ctx);
  /**
   * One log line. target names the place in the plugin.
   */
  void (*log)(void *ctx, daos_log_level level, struct daos_str target, struct daos_str message);
  /**
   * Registers a metric (idempotent by name) and returns its id; 0 when the host keeps none.
   */
  uint64_t (*metric_register)(void *ctx,
                              daos_metric_kind kind,
                              struct daos_str name,
                              struct daos_str unit,
                              struct daos_str help);
  /**
   * Records a value; cheap enough for once per batch, not for once per I/O.
   */
  void (*metric_record)(void *ctx, uint64_t id, double value);
  /**
   * Reads an unsigned number from the JSON document doc at the JSON pointer (RFC 6901)
   * pointer, so that C plugins need no parser. NOT_FOUND or INVALID leave out alone.
   */
  daos_status (*json_u64)(void *ctx, struct daos_str doc, struct daos_str pointer, uint64_t *out);
  /**
   * Reads a string likewise and appends its text to out.
   */
  daos_status (*json_str)(void *ctx, struct daos_str doc, struct daos_str pointer, struct daos_sink out);
} daos_host_services;
/**
 * Flag: the plugin shares the host's binary, hence its tracing dispatcher.
 */
#define DAOS_HOST_SERVICES_BUILT_IN 1

/**
 * Pointer to daos_host_services; opaque to the layout checker like daos_call_ptr.
 */
typedef const struct daos_host_services *daos_host_services_ptr;

/**
 * Description of a failure as daos_call.fail takes it. Frozen record.
 */
typedef struct daos_error_info {
  /**
   * The code that the function is about to return.
   */
  daos_status status;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * What failed, on what: "cannot open /dev/sdx".
   */
  struct daos_str what;
  /**
   * Why: the text of the system or device error. May be empty.
   */
  struct daos_str cause;
  /**
   * What the reader can do next. May be empty.
   */
  struct daos_str remedy;
} daos_error_info;

/**
 * Context of one control-face call. Made by the host, valid until the call returns; its
 * functions may be called from any thread of the plugin during that time.
 */
typedef struct daos_call {
  /**
   * Bytes of this struct that the host filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the host.
   */
  uint32_t version;
  /**
   * Passed back to the functions below.
   */
  void *ctx;
  /**
   * Deadline of the whole call in milliseconds from its start; 0 = none. A plugin that is
   * not back by then is killed together with the helper process it runs in.
   */
  uint64_t deadline_ms;
  /**
   * Reports progress: done of total (any unit; total 0 = unknown) of the step what.
   */
  void (*progress)(void *ctx, uint64_t done, uint64_t total, struct daos_str what);
  /**
   * Non-zero once the caller wants the operation to stop; long work asks at least every
   * 100 ms and returns DAOS_STATUS_CANCELLED, leaving things as they were where it can.
   */
  uint8_t (*cancelled)(void *ctx);
  /**
   * Describes the failure that the function is about to return; the last one counts.
   */
  void (*fail)(void *ctx, const struct daos_error_info *error);
  /**
   * Appends to the result document (JSON text) of the call.
   */
  void (*output)(void *ctx, const uint8_t *data, uintptr_t len);
} daos_call;

/**
 * Pointer to a daos_call; a named type because the layout checker treats it as opaque (the
 * pointee is checked on its own, as a growing type).
 */
typedef const struct daos_call *daos_call_ptr;

/**
 * An object of the other side; never dereferenced here.
 */
typedef void *daos_handle;

/**
 * Root of everything a plugin provides; both entries (Rust root module, C entry) lead here.
 * A static of the plugin: never changes, never goes away.
 */
typedef struct daos_plugin_table {
  /**
   * Bytes of this struct that the plugin filled.
   */
  uint32_t size;
  /**
   * DAOS_ABI_MAJOR the plugin was built with.
   */
  uint16_t abi_major;
  /**
   * DAOS_ABI_MINOR the plugin was built with.
   */
  uint16_t abi_minor;
  /**
   * The manifest (JSON), the same text as in the ELF note. Static.
   */
  struct daos_str manifest;
  /**
   * Makes the plugin's instance (one per process). settings is the JSON object of
   * plugins: <name>: settings: in the config, {} if absent. Called once, before all else.
   */
  daos_status (*create)(daos_host_services_ptr host, daos_call_ptr call, struct daos_str settings, daos_handle *plugin);
  /**
   * Releases the instance; everything opened from it is closed before.
   */
  void (*destroy)(daos_handle plugin);
  /**
   * Called on each thread that will use a queue or endpoint of this plugin, before its first
   * call; device libraries keep per-thread state. Null = not needed.
   */
  daos_status (*thread_attach)(daos_handle plugin);
  /**
   * Undoes thread_attach on the same thread, after its last call.
   */
  void (*thread_detach)(daos_handle plugin);
  /**
   * Control face; never null.
   */
  daos_control_table_ptr control;
  /**
   * Administration of open devices beside the data path.
   */
  daos_device_admin_table_ptr device_admin;
  /**
   * Block devices.
   */
  daos_bdev_table_ptr bdev;
  /**
   * Storage-class memory.
   */
  daos_scm_table_ptr scm;
  /**
   * Fabric.
   */
  daos_fabric_table_ptr fabric;
} daos_plugin_table;

/**
 * The rich, slow face. Every member may be null ("not supported"). Calls come from one thread
 * at a time, in a helper process of the plugin's own, never in the daemon.
 */
typedef struct daos_control_table {
  /**
   * Bytes of this struct that the plugin filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the plugin.
   */
  uint32_t version;
  /**
   * Checks the class config beyond its schema, without touching a device.
   */
  daos_status (*validate)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Lists devices (or interfaces) that this plugin could drive.
   */
  daos_status (*scan)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Makes devices ready for use (driver binding, hugepages, namespaces).
   */
  daos_status (*prepare)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Gives devices back to where prepare took them from.
   */
  daos_status (*release)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Lists the devices of a class config, in the order in which the engine numbers them, with
   * their state; reads only.
   */
  daos_status (*devices)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Makes one device ready to be labelled: creates the file, wipes, mounts. Destructive.
   */
  daos_status (*format)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * SCM: makes formatted storage available again after a boot (mounts it). Never destructive.
   */
  daos_status (*mount)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * SCM: undoes mount.
   */
  daos_status (*unmount)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Health of a device that no engine holds.
   */
  daos_status (*health)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Reads or updates firmware of a device that no engine holds.
   */
  daos_status (*firmware)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
  /**
   * Brings a block device to rest whose user has died: once it succeeds, nothing that the dead process
   * began reads or writes its memory or the device any more. Called before anybody else opens the
   * device, as often as it takes. Changes no content. BUSY while a living process has the device.
   * Null: the end of a process is the end of its I/O. Since 1.1.
   */
  daos_status (*quiesce)(daos_handle plugin, daos_call_ptr call, struct daos_str request);
} daos_control_table;

/**
 * Slow questions to an open device, asked by the engine that holds it, on its admin thread
 * (the one that calls poll_admin), never on a target thread.
 */
typedef struct daos_device_admin_table {
  /**
   * Bytes of this struct that the plugin filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the plugin.
   */
  uint32_t version;
  /**
   * Model, serial, firmware ... as a device record of scan.
   */
  daos_status (*identity)(daos_handle bdev, daos_call_ptr call);
  /**
   * Health document.
   */
  daos_status (*health)(daos_handle bdev, daos_call_ptr call);
} daos_device_admin_table;

/**
 * What the device is like; constant while it is open (a resize event announces a new size).
 * Frozen record.
 */
typedef struct daos_bdev_geometry {
  /**
   * Bytes per block: a power of two, 512 to 65536.
   */
  uint32_t block_size;
  /**
   * Alignment of memory in bytes (power of two); 1 = none.
   */
  uint32_t buffer_alignment;
  /**
   * Number of blocks.
   */
  uint64_t block_count;
  /**
   * Most blocks of a read, write or compare; larger ones complete as INVALID.
   */
  uint32_t max_transfer_blocks;
  /**
   * Most iovec entries of a request.
   */
  uint32_t max_segments;
  /**
   * Blocks that a write changes atomically with respect to power failure; at least 1.
   */
  uint32_t atomic_write_blocks;
  /**
   * Best granularity of unmap in blocks; 0 = unmap not supported.
   */
  uint32_t deallocate_granularity;
  /**
   * Most queues open at once, by this process. Devices that are parts of one controller (NVMe
   * namespaces) share them: the last ones opened may be refused with NO_MEMORY all the same.
   */
  uint32_t max_queues;
  /**
   * Most requests outstanding in a queue.
   */
  uint32_t max_queue_depth;
  /**
   * Bytes of host scratch per request; 0 = none.
   */
  uint32_t scratch_size;
  /**
   * NUMA node, -1 = unknown.
   */
  int32_t numa_node;
  /**
   * Period at which the host calls poll_admin, in microseconds; 0 = never.
   */
  uint32_t admin_poll_us;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * DAOS_BDEV_GEOMETRY_* flags.
   */
  uint64_t flags;
} daos_bdev_geometry;
/**
 * Writes without FUA may sit in a cache that a power failure empties: flush before relying
 * on them.
 */
#define DAOS_BDEV_GEOMETRY_VOLATILE_CACHE 1
/**
 * Write-zeroes is supported.
 */
#define DAOS_BDEV_GEOMETRY_WRITE_ZEROES 2
/**
 * Compare is supported.
 */
#define DAOS_BDEV_GEOMETRY_COMPARE 4
/**
 * Contents are gone once the process that opened the device ends.
 */
#define DAOS_BDEV_GEOMETRY_EPHEMERAL 8
/**
 * The device refuses writes.
 */
#define DAOS_BDEV_GEOMETRY_READ_ONLY 16

/**
 * Something that happened to the device. Frozen record.
 */
typedef struct daos_bdev_event {
  /**
   * DAOS_BDEV_EVENT_* kind.
   */
  uint32_t kind;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * New block count for RESIZED, else 0.
   */
  uint64_t value;
} daos_bdev_event;
/**
 * The device is gone; outstanding requests complete with DEVICE_GONE. Close its queues and the
 * device soon: the kernel may wait for that before it finishes the removal.
 */
#define DAOS_BDEV_EVENT_REMOVED 1
/**
 * The device has another size.
 */
#define DAOS_BDEV_EVENT_RESIZED 2
/**
 * Health became critical: move data away.
 */
#define DAOS_BDEV_EVENT_HEALTH_CRITICAL 3
/**
 * A reset begins: queues accept nothing until reconnect. A reset of one device may be a reset
 * of others that share its controller: hosts act on this event, not on their own call.
 */
#define DAOS_BDEV_EVENT_RESET_BEGIN 4
/**
 * The reset is over: each queue's thread calls reconnect.
 */
#define DAOS_BDEV_EVENT_RESET_END 5

/**
 * Operation of a daos_request.
 */
typedef uint8_t daos_bdev_op;
/**
 * Device to memory.
 */
#define DAOS_BDEV_OP_READ 1
/**
 * Memory to device; durable at completion only with DAOS_REQUEST_FUA or without a
 * volatile cache.
 */
#define DAOS_BDEV_OP_WRITE 2
/**
 * Makes every write completed before its submission durable. No range, no data.
 */
#define DAOS_BDEV_OP_FLUSH 3
/**
 * Deallocates; contents afterwards are undefined until written.
 */
#define DAOS_BDEV_OP_UNMAP 4
/**
 * The range reads as zeroes afterwards.
 */
#define DAOS_BDEV_OP_WRITE_ZEROES 5
/**
 * Compares the range with memory: DAOS_STATUS_MISCOMPARE if it differs.
 */
#define DAOS_BDEV_OP_COMPARE 6

/**
 * A piece of memory of a request. Frozen record.
 */
typedef struct daos_io_vec {
  /**
   * Start; aligned to daos_bdev_geometry.buffer_alignment.
   */
  uint8_t *ptr;
  /**
   * Bytes.
   */
  uintptr_t len;
} daos_io_vec;

/**
 * One I/O. The iovec array, the memory it names and scratch belong to the plugin from
 * acceptance until the completion is polled. Frozen record.
 */
typedef struct daos_request {
  /**
   * What to do.
   */
  daos_bdev_op op;
  /**
   * DAOS_REQUEST_FUA.
   */
  uint8_t flags;
  /**
   * Zero.
   */
  uint16_t reserved;
  /**
   * Entries of iov; 0 for operations without data.
   */
  uint32_t iov_count;
  /**
   * First block.
   */
  uint64_t lba;
  /**
   * Number of blocks, at least 1 except for flush; the lengths in iov add up to it. Segments
   * that are not whole blocks may be INVALID.
   */
  uint64_t blocks;
  /**
   * Memory of read, write and compare.
   */
  const struct daos_io_vec *iov;
  /**
   * Returned in the completion; unique among the outstanding requests of a queue.
   */
  uint64_t tag;
  /**
   * daos_bdev_geometry.scratch_size bytes, aligned to 64, for the plugin's use; null if 0.
   */
  uint8_t *scratch;
} daos_request;
/**
 * Durable at completion, whatever the device caches.
 */
#define DAOS_REQUEST_FUA 1

/**
 * Outcome of one request. Frozen record.
 */
typedef struct daos_completion {
  /**
   * Tag of the request.
   */
  uint64_t tag;
  /**
   * Outcome.
   */
  daos_status status;
  /**
   * Zero.
   */
  uint32_t reserved;
} daos_completion;

/**
 * Kinds of daos_wait.
 */
typedef uint32_t daos_wait_kind;
/**
 * Do not sleep: poll again at once.
 */
#define DAOS_WAIT_KIND_BUSY 0
/**
 * Sleep until fd is readable (or timeout_us, when not 0), then poll.
 */
#define DAOS_WAIT_KIND_FD 1
/**
 * Sleep timeout_us, then poll.
 */
#define DAOS_WAIT_KIND_TIMER 2

/**
 * How the thread that owns a queue or endpoint may sleep. Frozen record.
 */
typedef struct daos_wait {
  /**
   * What to do.
   */
  daos_wait_kind kind;
  /**
   * File descriptor, owned by the queue; valid for poll(2) until it is closed. -1 if none.
   */
  int32_t fd;
  /**
   * Microseconds; 0 with DAOS_WAIT_KIND_FD = no limit.
   */
  uint64_t timeout_us;
} daos_wait;
/**
 * Poll again at once.
 */
#define DAOS_WAIT_BUSY (daos_wait){ .kind = DAOS_WAIT_KIND_BUSY, .fd = -1, .timeout_us = 0 }

/**
 * Functions of the bdev data face.
 *
 * Threads: open, close, reset, poll_admin, next_event and the memory functions are
 * called from one admin thread at a time; a queue is opened, used and closed by one thread.
 * Queues are closed before their device, devices before the plugin.
 */
typedef struct daos_bdev_table {
  /**
   * Bytes of this struct that the plugin filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the plugin.
   */
  uint32_t version;
  /**
   * Opens a device exclusively. request is the device's entry as daos_control_table.devices
   * listed it, with the class config.
   */
  daos_status (*open)(daos_handle plugin, daos_call_ptr call, struct daos_str request, daos_handle *bdev);
  /**
   * Closes it; its queues are closed already.
   */
  void (*close)(daos_handle bdev);
  /**
   * Fills out.
   */
  daos_status (*geometry)(daos_handle bdev, struct daos_bdev_geometry *out);
  /**
   * Processes admin completions, timeouts and removals. Does not block.
   */
  daos_status (*poll_admin)(daos_handle bdev);
  /**
   * Takes the oldest event; returns 1 if there was one, else 0.
   */
  uint8_t (*next_event)(daos_handle bdev, struct daos_bdev_event *out);
  /**
   * Resets the device. Queues turn quiesced: each outstanding request completes exactly once
   * (with its result or RESET), new ones are not accepted until reconnect.
   */
  daos_status (*reset)(daos_handle bdev, daos_call_ptr call);
  /**
   * Opens a queue that takes up to depth outstanding requests; 0 and more than
   * max_queue_depth are INVALID.
   */
  daos_status (*open_queue)(daos_handle bdev, daos_call_ptr call, uint32_t depth, daos_handle *queue);
  /**
   * Closes it. Outstanding requests are aborted: when this returns the device no longer
   * touches their memory; they get no completion.
   */
  void (*close_queue)(daos_handle queue);
  /**
   * Takes the first n of count requests and returns n; n < count means "full, poll first".
   * A malformed request is taken and completes as INVALID, one that the geometry does not claim
   * as NOT_SUPPORTED. Never blocks. A negative value is
   * a negated daos_status and nothing was taken.
   */
  int32_t (*submit)(daos_handle queue, const struct daos_request *requests, uint32_t count);
  /**
   * Stores up to capacity completions, returns how many; negative as for submit.
   */
  int32_t (*poll)(daos_handle queue, struct daos_completion *completions, uint32_t capacity);
  /**
   * Asks to abort an outstanding request; it still completes exactly once (CANCELLED or its
   * result). Memory stays with the device until then. NOT_FOUND if it is not outstanding.
   */
  daos_status (*abort)(daos_handle queue, uint64_t tag);
  /**
   * Makes a quiesced queue usable again after a reset, on the queue's thread.
   */
  daos_status (*reconnect)(daos_handle queue);
  /**
   * How the queue's thread may sleep while requests are outstanding.
   */
  daos_status (*arm_wait)(daos_handle queue, struct daos_wait *out);
  /**
   * Allocates I/O memory, 2 MiB aligned, near numa_node (-1 = any). A null member, or success
   * with out null: the host allocates and offers it through memory_register.
   */
  daos_status (*memory_alloc)(daos_handle plugin,
                         daos_call_ptr call,
                         uintptr_t len,
                         int32_t numa_node,
                         daos_handle *out);
  /**
   * Frees what memory_alloc gave.
   */
  void (*memory_free)(daos_handle plugin, daos_handle ptr, uintptr_t len);
  /**
   * Offers host memory (2 MiB aligned, multiple of 2 MiB) for I/O before queues are opened.
   * I/O on memory never offered is allowed but may be slower, or INVALID if the device
   * cannot reach it. Null member: registration brings nothing.
   */
  daos_status (*memory_register)(daos_handle plugin, daos_call_ptr call, daos_handle ptr, uintptr_t len);
  /**
   * Takes the offer back; no queue that could use it is open.
   */
  daos_status (*memory_unregister)(daos_handle plugin, daos_handle ptr, uintptr_t len);
} daos_bdev_table;

/**
 * What the memory is like. Frozen record.
 */
typedef struct daos_scm_info {
  /**
   * Bytes in all.
   */
  uint64_t total;
  /**
   * Bytes still free for regions and files.
   */
  uint64_t available;
  /**
   * Granularity of persist in bytes (power of two): a crash keeps or loses whole units.
   */
  uint32_t persist_granularity;
  /**
   * NUMA node, -1 = unknown.
   */
  int32_t numa_node;
  /**
   * DAOS_SCM_INFO_* flags.
   */
  uint64_t flags;
} daos_scm_info;
/**
 * Contents do not survive a reboot (a killed process they do).
 */
#define DAOS_SCM_INFO_EPHEMERAL 1
/**
 * Direct access to persistent memory: stores reach the medium without a page cache.
 */
#define DAOS_SCM_INFO_DAX 2

/**
 * A mapped region. Frozen record.
 */
typedef struct daos_scm_region {
  /**
   * The plugin's handle of it.
   */
  daos_handle handle;
  /**
   * First byte, page aligned; stays where it is until the region is closed.
   */
  uint8_t *ptr;
  /**
   * Bytes: what was asked for, rounded up to pages.
   */
  uintptr_t len;
} daos_scm_region;

/**
 * Functions of the SCM data face. open, close and the region functions are called from one
 * thread at a time; persist, flush and drain from any thread on disjoint ranges.
 *
 * SCM is never a target of remote memory access. open_region allocates everything up front,
 * so that a full file system is NO_SPACE there and never a signal later.
 */
typedef struct daos_scm_table {
  /**
   * Bytes of this struct that the plugin filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the plugin.
   */
  uint32_t version;
  /**
   * Opens formatted, mounted storage; request is its entry as daos_control_table.devices listed
   * it, with the class config.
   */
  daos_status (*open)(daos_handle plugin, daos_call_ptr call, struct daos_str request, daos_handle *scm);
  /**
   * Closes it; its regions are closed already.
   */
  void (*close)(daos_handle scm);
  /**
   * Fills out.
   */
  daos_status (*info)(daos_handle scm, struct daos_scm_info *out);
  /**
   * Writes the absolute path of a directory for files on this memory.
   */
  daos_status (*mount_point)(daos_handle scm, struct daos_sink out);
  /**
   * Maps the region name (1 to 64 of [A-Za-z0-9._-], not . or ..). With DAOS_SCM_CREATE it must not exist
   * and is made of len zero bytes, else it must exist and len is ignored.
   */
  daos_status (*open_region)(daos_handle scm,
                        daos_call_ptr call,
                        struct daos_str name,
                        uint64_t len,
                        uint32_t flags,
                        struct daos_scm_region *out);
  /**
   * Unmaps; contents stay.
   */
  void (*close_region)(daos_handle scm, daos_handle region);
  /**
   * Deletes a region that is not open.
   */
  daos_status (*remove_region)(daos_handle scm, daos_call_ptr call, struct daos_str name);
  /**
   * Makes the range durable before it returns: flush and drain in one.
   */
  daos_status (*persist)(daos_handle scm, const uint8_t *ptr, uintptr_t len);
  /**
   * Starts writing the range back; durable after the next drain of the same thread.
   */
  daos_status (*flush)(daos_handle scm, const uint8_t *ptr, uintptr_t len);
  /**
   * Waits for all flushes of this thread.
   */
  daos_status (*drain)(daos_handle scm);
} daos_scm_table;

/**
 * What the domain is like; constant. Frozen record.
 */
typedef struct daos_fabric_info {
  /**
   * Most bytes of a message.
   */
  uint64_t max_message;
  /**
   * Most bytes of a READ or WRITE.
   */
  uint64_t max_rma;
  /**
   * Most bytes of an endpoint address.
   */
  uint32_t max_address;
  /**
   * Bytes of host scratch per operation; 0 = none.
   */
  uint32_t scratch_size;
  /**
   * Most endpoints of the domain.
   */
  uint32_t max_endpoints;
  /**
   * Most operations outstanding per endpoint and direction.
   */
  uint32_t max_outstanding;
  /**
   * Bits of a tag that are carried, counted from the lowest; at least 48.
   */
  uint32_t tag_bits;
  /**
   * NUMA node, -1 = unknown.
   */
  int32_t numa_node;
  /**
   * DAOS_FABRIC_INFO_* flags.
   */
  uint64_t flags;
} daos_fabric_info;
/**
 * Local memory of every operation, SEND and RECV included, must be registered and named by its
 * descriptor.
 */
#define DAOS_FABRIC_INFO_LOCAL_REGISTRATION 1
/**
 * Progress only happens inside poll: a target of RMA must poll too.
 */
#define DAOS_FABRIC_INFO_MANUAL_PROGRESS 2
/**
 * A remote access with a wrong key, outside of the registration or beyond its rights is refused
 * and touches nothing. Without this flag peers must be trusted with the whole process.
 */
#define DAOS_FABRIC_INFO_CHECKS_ACCESS 4
/**
 * A refused access completes as ACCESS and the connection stays; else it
 * completes as UNREACHABLE and a later operation connects again.
 */
#define DAOS_FABRIC_INFO_REPORTS_ACCESS 8

/**
 * A registration of memory. Frozen record.
 */
typedef struct daos_memory_region {
  /**
   * The plugin's handle of it, for unregister.
   */
  daos_handle handle;
  /**
   * For daos_fabric_request.descriptor of local operations; 0 where the provider needs none.
   */
  uint64_t descriptor;
  /**
   * For peers: daos_fabric_request.remote_key.
   */
  uint64_t key;
  /**
   * For peers: remote address of the first byte (0 or the virtual address).
   */
  uint64_t base;
} daos_memory_region;

/**
 * Operation of a daos_fabric_request.
 */
typedef uint8_t daos_fabric_op;
/**
 * Sends len bytes with tag to peer; complete when the memory may be reused, which does not
 * mean that the peer has the message, or lives.
 */
#define DAOS_FABRIC_OP_SEND 1
/**
 * Offers memory for one incoming message whose tag matches tag outside ignore.
 */
#define DAOS_FABRIC_OP_RECV 2
/**
 * Reads remote memory into local memory.
 */
#define DAOS_FABRIC_OP_READ 3
/**
 * Writes local memory to remote memory; complete when the target memory has the data.
 */
#define DAOS_FABRIC_OP_WRITE 4

/**
 * One operation. Memory and scratch belong to the plugin until the completion is polled.
 * Frozen record.
 */
typedef struct daos_fabric_request {
  /**
   * What to do.
   */
  daos_fabric_op op;
  /**
   * Zero.
   */
  uint8_t reserved[7];
  /**
   * Peer as resolve numbered it; ignored by RECV (any sender).
   */
  uint64_t peer;
  /**
   * Tag of SEND and RECV.
   */
  uint64_t tag;
  /**
   * RECV: bits of the tag that do not matter.
   */
  uint64_t ignore;
  /**
   * Local memory.
   */
  uint8_t *ptr;
  /**
   * Bytes.
   */
  uintptr_t len;
  /**
   * Local descriptor of the registration that contains the memory; 0 if not registered.
   */
  uint64_t descriptor;
  /**
   * READ, WRITE: remote address, i.e. the target's daos_memory_region.base plus offset.
   */
  uint64_t remote_addr;
  /**
   * READ, WRITE: the target's daos_memory_region.key.
   */
  uint64_t remote_key;
  /**
   * Returned in the completion; unique among the outstanding operations of an endpoint.
   */
  uint64_t user;
  /**
   * daos_fabric_info.scratch_size bytes, aligned to 64, for the plugin's use; null if 0.
   */
  uint8_t *scratch;
} daos_fabric_request;

/**
 * Outcome of one operation. Frozen record.
 */
typedef struct daos_fabric_completion {
  /**
   * From the request.
   */
  uint64_t user;
  /**
   * RECV: tag of the message.
   */
  uint64_t tag;
  /**
   * RECV: bytes received.
   */
  uint64_t len;
  /**
   * Outcome.
   */
  daos_status status;
  /**
   * Operation of the request.
   */
  daos_fabric_op op;
  /**
   * Zero.
   */
  uint8_t reserved[3];
} daos_fabric_completion;

/**
 * Functions of the fabric data face. Domain functions are called from one thread at a time, also
 * while endpoints are in use; an endpoint is opened, used and closed by one thread.
 *
 * submit may be full for all peers or for none: a peer that is slow or not connected yet must not
 * make operations towards others wait. What happens to a remote access without the right to it,
 * DAOS_FABRIC_INFO_CHECKS_ACCESS and DAOS_FABRIC_INFO_REPORTS_ACCESS say.
 *
 * Messages between two endpoints arrive in the order sent. A message that meets no matching
 * RECV is held by the plugin until one is offered. The sender is not reported: senders put
 * their address into their own header.
 */
typedef struct daos_fabric_table {
  /**
   * Bytes of this struct that the plugin filled.
   */
  uint32_t size;
  /**
   * Interface minor version of the plugin.
   */
  uint32_t version;
  /**
   * Opens a domain on an interface; request is {"provider","interface","port","answers",...}.
   */
  daos_status (*open)(daos_handle plugin, daos_call_ptr call, struct daos_str request, daos_handle *domain);
  /**
   * Closes it; endpoints and registrations are gone already.
   */
  void (*close)(daos_handle domain);
  /**
   * Fills out.
   */
  daos_status (*info)(daos_handle domain, struct daos_fabric_info *out);
  /**
   * Registers memory with rights FABRIC_*.
   */
  daos_status (*register_)(daos_handle domain,
                      daos_call_ptr call,
                      uint8_t *ptr,
                      uintptr_t len,
                      uint32_t access,
                      struct daos_memory_region *out);
  /**
   * Ends a registration; when it returns, no peer can reach the memory any more.
   */
  daos_status (*unregister)(daos_handle domain, daos_handle region);
  /**
   * Opens an endpoint with a completion queue of its own.
   */
  daos_status (*open_endpoint)(daos_handle domain, daos_call_ptr call, daos_handle *endpoint);
  /**
   * Closes it; outstanding operations get no completion, their memory is free on return.
   */
  void (*close_endpoint)(daos_handle endpoint);
  /**
   * Writes the endpoint's address: opaque bytes for resolve elsewhere.
   */
  daos_status (*address)(daos_handle endpoint, struct daos_sink out);
  /**
   * Numbers a peer for this endpoint. Idempotent per address; does not wait for the peer.
   */
  daos_status (*resolve)(daos_handle endpoint, const uint8_t *address, uintptr_t len, uint64_t *peer);
  /**
   * Forgets a peer; operations outstanding towards it complete as CANCELLED, UNREACHABLE or with
   * their own result, when the provider lets go of them.
   */
  daos_status (*release)(daos_handle endpoint, uint64_t peer);
  /**
   * Takes the first n of count operations and returns n; n < count means "full, poll first".
   * Negative: a negated daos_status, nothing taken. Never blocks.
   */
  int32_t (*submit)(daos_handle endpoint, const struct daos_fabric_request *requests, uint32_t count);
  /**
   * Makes progress and stores up to capacity completions, returns how many; negative as above.
   */
  int32_t (*poll)(daos_handle endpoint, struct daos_fabric_completion *completions, uint32_t capacity);
  /**
   * Asks to cancel an operation; it still completes exactly once. NOT_FOUND if it is not
   * outstanding. A transmission may be past cancelling: its memory is free only with its
   * completion, or with close_endpoint.
   */
  daos_status (*cancel)(daos_handle endpoint, uint64_t user);
  /**
   * How the endpoint's thread may sleep. Includes the provider's "try wait" step: an answer
   * other than BUSY means that nothing is pending that the descriptor would not announce.
   */
  daos_status (*arm_wait)(daos_handle endpoint, struct daos_wait *out);
} daos_fabric_table;

/**
 * Start of the note's descriptor; the manifest JSON follows directly.
 */
typedef struct daos_note_header {
  /**
   * DAOS_ABI_MAJOR of the plugin.
   */
  uint16_t abi_major;
  /**
   * DAOS_ABI_MINOR of the plugin.
   */
  uint16_t abi_minor;
  /**
   * NOTE_* flags.
   */
  uint32_t flags;
  /**
   * Bytes of manifest JSON that follow.
   */
  uint32_t json_len;
} daos_note_header;

/**
 * The C entry: returns the plugin's static table, or null if the plugin cannot serve a host of
 * that version. Called once, before everything else.
 */
typedef const struct daos_plugin_table *(*daos_c_entry)(uint16_t host_major, uint16_t host_minor);

/* Sizes as the host's compiler sees them. */
#if !defined(__cplusplus) && UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(daos_str) == 16, "size of daos_str");
_Static_assert(sizeof(daos_sink) == 16, "size of daos_sink");
_Static_assert(sizeof(daos_error_info) == 56, "size of daos_error_info");
_Static_assert(sizeof(daos_call) == 56, "size of daos_call");
_Static_assert(sizeof(daos_host_services) == 72, "size of daos_host_services");
_Static_assert(sizeof(daos_wait) == 16, "size of daos_wait");
_Static_assert(sizeof(daos_io_vec) == 16, "size of daos_io_vec");
_Static_assert(sizeof(daos_request) == 48, "size of daos_request");
_Static_assert(sizeof(daos_completion) == 16, "size of daos_completion");
_Static_assert(sizeof(daos_bdev_geometry) == 64, "size of daos_bdev_geometry");
_Static_assert(sizeof(daos_bdev_event) == 16, "size of daos_bdev_event");
_Static_assert(sizeof(daos_bdev_table) == 144, "size of daos_bdev_table");
_Static_assert(sizeof(daos_scm_region) == 24, "size of daos_scm_region");
_Static_assert(sizeof(daos_scm_info) == 32, "size of daos_scm_info");
_Static_assert(sizeof(daos_scm_table) == 88, "size of daos_scm_table");
_Static_assert(sizeof(daos_fabric_request) == 88, "size of daos_fabric_request");
_Static_assert(sizeof(daos_fabric_completion) == 32, "size of daos_fabric_completion");
_Static_assert(sizeof(daos_memory_region) == 32, "size of daos_memory_region");
_Static_assert(sizeof(daos_fabric_info) == 48, "size of daos_fabric_info");
_Static_assert(sizeof(daos_fabric_table) == 120, "size of daos_fabric_table");
_Static_assert(sizeof(daos_plugin_table) == 96, "size of daos_plugin_table");
_Static_assert(sizeof(daos_control_table) == 96, "size of daos_control_table");
_Static_assert(sizeof(daos_device_admin_table) == 24, "size of daos_device_admin_table");
_Static_assert(sizeof(daos_note_header) == 12, "size of daos_note_header");
#endif

/** A text literal as a daos_str, for initialisers. */
#define DAOS_STR(literal) { (const uint8_t *)("" literal), sizeof(literal) - 1 }

/** States the manifest (JSON, a string literal) once per plugin: emits the ELF note that hosts read
 *  without running the plugin, and defines daos_plugin_manifest for the root table. */
#define DAOS_PLUGIN_MANIFEST(json)                                                                 \
  __attribute__((section(".note.daos.plugin"), used, aligned(4))) static const struct {            \
    uint32_t namesz;                                                                               \
    uint32_t descsz;                                                                               \
    uint32_t type;                                                                                 \
    char owner[8];                                                                                 \
    daos_note_header header;                                                                       \
    char text[sizeof(json)];                                                                       \
  } daos_plugin_note = { 5,                                                                        \
                         sizeof(daos_note_header) + sizeof(json),                                  \
                         DAOS_NOTE_TYPE,                                                           \
                         "DAOS",                                                                   \
                         { DAOS_ABI_MAJOR, DAOS_ABI_MINOR, 0, sizeof(json) - 1 },                  \
                         json };                                                                   \
  static const daos_str daos_plugin_manifest = DAOS_STR(json)

/** The entry that a C plugin defines: its static table, or NULL for a host it cannot serve. */
__attribute__((visibility("default"))) const daos_plugin_table *
daos_plugin_entry_v1(uint16_t host_major, uint16_t host_minor);

#ifdef __cplusplus
}
#endif

#endif /* DAOS_PLUGIN_H */
