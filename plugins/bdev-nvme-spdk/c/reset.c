/* What later versions wait for without end, or do not tell: a controller that does not come back from a reset, and one
 * that does not confirm that a queue is deleted. */
#include "admin.h"

#include <errno.h>

#include <spdk/version.h>

int
daos_spdk_reset(struct spdk_nvme_ctrlr *ctrlr)
{
#if SPDK_VERSION >= SPDK_VERSION_NUM(22, 5, 0)
	uint64_t begin = daos_spdk_seconds();
	bool given_up = false;
	/* Busy: an earlier reset ran out of time below. */
	int rc = spdk_nvme_ctrlr_disconnect(ctrlr);

	if (rc != 0 && rc != -EBUSY) {
		return rc;
	}
	/* The controller is disabled; then there is no admin queue any more. */
	while (spdk_nvme_ctrlr_process_admin_completions(ctrlr) != -ENXIO) {
		if (daos_spdk_seconds() - begin > DAOS_SPDK_RESET_TIMEOUT_S) {
			return -ETIMEDOUT;
		}
	}
	/* Takes the driver's lock, which the last of the polls gives back. */
	begin = daos_spdk_seconds();
	spdk_nvme_ctrlr_reconnect_async(ctrlr);
	while ((rc = spdk_nvme_ctrlr_reconnect_poll_async(ctrlr)) == -EAGAIN) {
		uint64_t since = daos_spdk_seconds() - begin;
		/* The driver reads version and capabilities anew, before it waits for anything. A controller of no version has
		 * registers that do not answer; the time to wait for it is among them, and zero is no limit to the driver. */
		bool dead = since > 1 && spdk_nvme_ctrlr_get_regs_vs(ctrlr).raw == 0;

		if (!given_up && (dead || since > DAOS_SPDK_RESET_TIMEOUT_S)) {
			/* The next poll returns an error. */
			spdk_nvme_ctrlr_fail(ctrlr);
			given_up = true;
		}
	}
	return rc;
#else
	return spdk_nvme_ctrlr_reset(ctrlr);
#endif
}

int
daos_spdk_queue_close(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair)
{
#if SPDK_VERSION >= SPDK_VERSION_NUM(21, 1, 0)
	/* Returns 0 whatever the controller said to it, and leaves only words; of a refusal not even these in some version
	 * before 26.01. A controller that does not answer has failed by its time limit. */
	struct spdk_nvme_ctrlr *ctrlr = spdk_nvme_ns_get_ctrlr(ns);
	int rc;

	daos_spdk_deletion_failed = false;
	rc = spdk_nvme_ctrlr_free_io_qpair(qpair);
	if (rc == 0 && (daos_spdk_deletion_failed || spdk_nvme_ctrlr_is_failed(ctrlr))) {
		rc = -EIO;
	}
	return rc;
#else
	return spdk_nvme_ctrlr_free_io_qpair(qpair);
#endif
}
