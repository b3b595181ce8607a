/* What of SPDK differs between its versions - structures with options, status layouts, log callbacks -
 * behind functions with plain arguments. Functions return 0 or a negated errno unless they say otherwise. */
#ifndef DAOS_SPDK_SHIM_H
#define DAOS_SPDK_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <spdk/env.h>
#include <spdk/nvme.h>

/* One line of the log of SPDK or DPDK, without line end. Levels: 0 error, 1 warning, 2 notice, 3 info, 4 debug. */
typedef void (*daos_spdk_log_fn)(int level, const char *line, size_t len);

/* Everything that SPDK and DPDK have to say goes to `line` from now on, from any thread. */
void daos_spdk_log_to(daos_spdk_log_fn line);

/* Between these two calls what C code prints goes to the log as well: the start of the environment prints before
 * and beside its log. The descriptors stay as they are, so that others' output is not touched. */
struct daos_spdk_output {
	FILE *output;
	FILE *errors;
};
void daos_spdk_log_output(struct daos_spdk_output *saved);
void daos_spdk_log_output_end(const struct daos_spdk_output *saved);

/* Starts the environment (DPDK), once in a process and for good: it cannot be stopped and started again.
 * Pins the calling thread to `core`; the caller puts its affinity back. `memory_mib` of huge pages are
 * reserved at once, 0 = as needed. */
int daos_spdk_env_init(unsigned core, unsigned memory_mib);

/* SPDK replaces the process's handler of SIGBUS, when it is loaded (from 21.01 on) or at the first attach (before).
 * To be called before each attach, and after each attach and detach: a SIGBUS in the registers of a device goes to
 * SPDK's handler, any other one to the handler that was there before. One call at a time. */
void daos_spdk_sigbus_before(void);
void daos_spdk_sigbus_after(void);

/* Attaches the controller with a transport id in SPDK's notation ("trtype:PCIe traddr:0000:41:00.0"; on PCI a user-space
 * driver holds it); NULL on failure (the log says why). `queue_entries` limits the size of its queues. An admin command that takes longer than
 * DAOS_SPDK_ADMIN_TIMEOUT_S fails the controller: the driver would wait for it without end. */
#define DAOS_SPDK_ADMIN_TIMEOUT_S 8
struct spdk_nvme_ctrlr *daos_spdk_attach(const char *transport, uint32_t queue_entries);

/* Whether the kernel wants the device back or it is gone; false for a controller on a fabric. */
bool daos_spdk_is_removed(struct spdk_nvme_ctrlr *ctrlr);

/* The same of a namespace's controller. */
bool daos_spdk_ns_is_removed(struct spdk_nvme_ns *ns);

/* Takes the right to access memory from the device (no data moves after this) or gives it back. A controller on a fabric
 * has none. */
int daos_spdk_set_dma(struct spdk_nvme_ctrlr *ctrlr, bool allowed);

struct daos_spdk_controller_info {
	char model[41];    /* zero-terminated, without padding */
	char serial[21];
	char firmware[9];
	uint32_t io_queues;      /* I/O queues that the controller granted */
	uint32_t queue_entries;  /* entries of its largest queue */
	int32_t numa_node;       /* -1 = unknown */
	bool volatile_cache;
	bool can_format;         /* has the command NVMe Format */
	bool formats_all;        /* which concerns all namespaces, whichever is named */
	bool sgl;                /* takes scatter lists of any shape */
};

/* Resets a controller, on the thread that calls. An error if it is not ready again after DAOS_SPDK_RESET_TIMEOUT_S (the largest
 * time that a controller may ask for is half of it), or as soon as its registers are known not to answer. */
#define DAOS_SPDK_RESET_TIMEOUT_S 255
int daos_spdk_reset(struct spdk_nvme_ctrlr *ctrlr);

/* The functions below ask the controller; they block for admin commands. */
int daos_spdk_controller_info(struct spdk_nvme_ctrlr *ctrlr, struct daos_spdk_controller_info *info);

/* SMART / health information, log page 02h, of the whole controller. */
#define DAOS_SPDK_HEALTH_BYTES 512
int daos_spdk_health_page(struct spdk_nvme_ctrlr *ctrlr, uint8_t page[DAOS_SPDK_HEALTH_BYTES]);

/* NVMe Format of a namespace with user data erase, in the format of blocks that it has, and a reset of the
 * controller. No queue may be open. */
int daos_spdk_format(struct spdk_nvme_ctrlr *ctrlr, uint32_t nsid);

/* Firmware. Pages and statuses have the layout of the NVMe specification. */
#define DAOS_SPDK_FIRMWARE_PAGE_BYTES 512
struct daos_spdk_firmware_info {
	bool updatable;         /* has the commands for it */
	bool first_read_only;   /* the first slot takes no image */
	uint8_t slots;
	uint32_t granularity;   /* bytes that pieces are a multiple of; 0 = not told */
	bool any_piece;         /* pieces of any size are taken */
	uint32_t max_transfer_bytes;
	uint8_t page[DAOS_SPDK_FIRMWARE_PAGE_BYTES]; /* log page 03h */
};
int daos_spdk_firmware_info(struct spdk_nvme_ctrlr *ctrlr, struct daos_spdk_firmware_info *info);

/* These two return 0 when the controller has answered: its status, type in bits 8 to 10 and code below, is in `status`.
 * Otherwise the command may still be with the controller, and the memory stays in its hands until it is detached. */

/* One piece of an image, at an offset, both in bytes and multiples of 4; `data` is memory for I/O. */
int daos_spdk_firmware_download(struct spdk_nvme_ctrlr *ctrlr, void *data, uint32_t bytes, uint32_t offset,
				uint32_t *status);

/* Puts the image into a slot (0 = the controller chooses) and makes it the one of the next reset. Takes as long as the
 * device takes, but not longer than DAOS_SPDK_COMMIT_TIMEOUT_S. */
#define DAOS_SPDK_COMMIT_TIMEOUT_S 180
int daos_spdk_firmware_commit(struct spdk_nvme_ctrlr *ctrlr, uint32_t slot, uint32_t *status);

struct daos_spdk_namespace_info {
	uint64_t blocks;
	uint32_t block_size;
	uint32_t metadata_size;        /* bytes per block; 0 = none */
	uint32_t max_transfer_bytes;
	uint32_t atomic_blocks;        /* written whole or not at all on a power failure */
	uint32_t deallocate_blocks;    /* preferred granularity; 0 = not supported */
	bool write_zeroes;
	bool compare;
	bool shared;                   /* other controllers may have it, too */
};

void daos_spdk_namespace_info(struct spdk_nvme_ns *ns, struct daos_spdk_namespace_info *info);

/* Opens an I/O queue for up to `depth` commands, with rings of so many entries, on the thread that will use it. NULL on failure. */
struct spdk_nvme_qpair *daos_spdk_queue_open(struct spdk_nvme_ctrlr *ctrlr, uint32_t depth, uint32_t entries);

/* Closes a queue of a namespace's controller: what was under way ends before this returns, and the queue is gone whatever it
 * returns. An error: the controller did not confirm, and may still use the queue's memory. */
int daos_spdk_queue_close(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair);

/* Deallocates up to UINT32_MAX blocks. */
int daos_spdk_deallocate(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, uint64_t lba, uint32_t blocks,
			 spdk_nvme_cmd_cb done, void *arg);


/* Flag of a write: durable at completion. */
extern const uint32_t daos_spdk_fua;

/* What a completion means to us. */
enum daos_spdk_outcome {
	DAOS_SPDK_OK,
	DAOS_SPDK_INVALID,
	DAOS_SPDK_UNSUPPORTED,
	DAOS_SPDK_ABORTED,
	DAOS_SPDK_MEDIA,
	DAOS_SPDK_MISCOMPARE,
	DAOS_SPDK_DENIED,
	DAOS_SPDK_CAPACITY,
	DAOS_SPDK_FAILED,
};
enum daos_spdk_outcome daos_spdk_outcome(const struct spdk_nvme_cpl *cpl);

/* What an asynchronous event of a controller means to us. */
enum daos_spdk_notice {
	DAOS_SPDK_NOTICE_OTHER,
	DAOS_SPDK_NOTICE_NAMESPACE,
	DAOS_SPDK_NOTICE_HEALTH,
	DAOS_SPDK_NOTICE_FAILURE,
};
enum daos_spdk_notice daos_spdk_notice(const struct spdk_nvme_cpl *cpl);

#endif
