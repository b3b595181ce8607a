#include "admin.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <spdk/version.h>

static void
command_timed_out(void *arg, struct spdk_nvme_ctrlr *ctrlr, struct spdk_nvme_qpair *qpair, uint16_t cid)
{
	/* Time limits of I/O are the host's business; without a queue it is an admin command. */
	if (qpair == NULL) {
		spdk_nvme_ctrlr_fail(ctrlr);
	}
}

void
daos_spdk_watch_admin(struct spdk_nvme_ctrlr *ctrlr, bool on)
{
	const uint64_t limit_us = DAOS_SPDK_ADMIN_TIMEOUT_S * 1000000ull;
	spdk_nvme_timeout_cb late = on ? command_timed_out : NULL;

#if SPDK_VERSION >= SPDK_VERSION_NUM(21, 7, 0)
	/* Limits of their own for I/O (0 = none) and for admin commands. */
	spdk_nvme_ctrlr_register_timeout_callback(ctrlr, 0, limit_us, late, NULL);
#else
	spdk_nvme_ctrlr_register_timeout_callback(ctrlr, limit_us, late, NULL);
#endif
}

void
daos_spdk_take_answer(void *arg, const struct spdk_nvme_cpl *cpl)
{
	struct answer *answer = arg;

	if (answer->given_up) {
		free(answer);
		return;
	}
	answer->status = (uint32_t)cpl->status.sct << 8 | cpl->status.sc;
	answer->value = cpl->cdw0;
	answer->done = true;
}

uint64_t
daos_spdk_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

int
daos_spdk_wait(struct spdk_nvme_ctrlr *ctrlr, struct answer *answer, int rc, unsigned limit_s)
{
	uint64_t end = limit_s == 0 ? UINT64_MAX : daos_spdk_seconds() + limit_s;

	if (rc != 0) {
		free(answer);
		return rc;
	}
	while (!answer->done) {
		rc = spdk_nvme_ctrlr_process_admin_completions(ctrlr);
		if (rc >= 0 && daos_spdk_seconds() > end) {
			rc = -ETIMEDOUT;
		}
		if (rc < 0 && !answer->done) {
			answer->given_up = true;
			return rc;
		}
	}
	return 0;
}

int
daos_spdk_wait_for(struct spdk_nvme_ctrlr *ctrlr, struct answer *answer, int rc)
{
	rc = daos_spdk_wait(ctrlr, answer, rc, 0);
	if (rc == 0 && answer->status != 0) {
		free(answer);
		return -EIO;
	}
	return rc;
}
