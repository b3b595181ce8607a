/* Admin commands that are waited for. */
#ifndef DAOS_SPDK_ADMIN_H
#define DAOS_SPDK_ADMIN_H

#include "shim.h"

/* A byte of what Identify told, at its place in the specification, which is that of every version. The fields that are read
 * this way have other names in later versions. */
#define DAOS_SPDK_CTRLR_OACS 256 /* optional admin commands, a bit each */
#define DAOS_SPDK_OACS_FORMAT (1u << 1)
#define DAOS_SPDK_OACS_FIRMWARE (1u << 2)
#define DAOS_SPDK_NS_NLBAF 25 /* formats of blocks, zero-based */
#define DAOS_SPDK_NS_FLBAS 26 /* which of them: bits 0 to 3, and 5 and 6 above them where there are more than 16 */
#define DAOS_SPDK_FLBAS_HIGH (3u << 5)
#define DAOS_SPDK_NS_NMIC 30
#define DAOS_SPDK_NMIC_SHARED (1u << 0)
static inline unsigned
daos_spdk_identified(const void *data, size_t at)
{
	return ((const uint8_t *)data)[at];
}

/* Sets or lifts the time limit of admin commands. */
void daos_spdk_watch_admin(struct spdk_nvme_ctrlr *ctrlr, bool on);

/* A clock that only goes forward. */
uint64_t daos_spdk_seconds(void);

/* The calling thread's driver has said that it could not delete a queue. */
extern _Thread_local bool daos_spdk_deletion_failed;

/* The answer to an admin command, on the heap: a controller that fails may end the command after we gave up. */
struct answer {
	bool done;
	bool given_up;
	uint32_t value;
	uint32_t status; /* type in bits 8 to 10, code below */
	uint8_t page[DAOS_SPDK_HEALTH_BYTES];
};

/* The callback of such a command. */
void daos_spdk_take_answer(void *arg, const struct spdk_nvme_cpl *cpl);

/* Processes admin completions until the answer to a command is there, that was submitted with the result `rc`; for
 * `limit_s` seconds, 0 = as long as the time limit of admin commands lets it. Unless this returns 0, the answer is gone. */
int daos_spdk_wait(struct spdk_nvme_ctrlr *ctrlr, struct answer *answer, int rc, unsigned limit_s);

/* The same; an answer that is an error is gone as well, and -EIO. */
int daos_spdk_wait_for(struct spdk_nvme_ctrlr *ctrlr, struct answer *answer, int rc);

#endif
