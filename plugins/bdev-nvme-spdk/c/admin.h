/* Admin commands that are waited for. */
#ifndef DAOS_SPDK_ADMIN_H
#define DAOS_SPDK_ADMIN_H

#include "shim.h"

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
