#include "admin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
daos_spdk_firmware_info(struct spdk_nvme_ctrlr *ctrlr, struct daos_spdk_firmware_info *info)
{
	const struct spdk_nvme_ctrlr_data *data = spdk_nvme_ctrlr_get_data(ctrlr);
	struct answer *answer = calloc(1, sizeof(*answer));
	int rc;

	_Static_assert(sizeof(struct spdk_nvme_firmware_page) == DAOS_SPDK_FIRMWARE_PAGE_BYTES, "log page 03h");
	_Static_assert(sizeof(answer->page) >= DAOS_SPDK_FIRMWARE_PAGE_BYTES, "room for log page 03h");
	if (answer == NULL) {
		return -ENOMEM;
	}
	memset(info, 0, sizeof(*info));
	info->updatable = (daos_spdk_identified(data, DAOS_SPDK_CTRLR_OACS) & DAOS_SPDK_OACS_FIRMWARE) != 0;
	info->first_read_only = data->frmw.slot1_ro;
	info->slots = data->frmw.num_slots;
	/* In units of 4 KiB; 0 = not told, 255 = none. */
	info->any_piece = data->fwug == 0xff;
	info->granularity = info->any_piece ? 4 : data->fwug * 4096u;
	info->max_transfer_bytes = spdk_nvme_ctrlr_get_max_xfer_size(ctrlr);
	rc = spdk_nvme_ctrlr_cmd_get_log_page(ctrlr, SPDK_NVME_LOG_FIRMWARE_SLOT, SPDK_NVME_GLOBAL_NS_TAG, answer->page,
					      sizeof(info->page), 0, daos_spdk_take_answer, answer);
	rc = daos_spdk_wait_for(ctrlr, answer, rc);
	if (rc == 0) {
		memcpy(info->page, answer->page, sizeof(info->page));
		free(answer);
	}
	return rc;
}

/* Sends a command and waits; see the two that use it. */
static int
command(struct spdk_nvme_ctrlr *ctrlr, struct spdk_nvme_cmd *cmd, void *data, uint32_t bytes, unsigned limit_s,
	uint32_t *status)
{
	struct answer *answer = calloc(1, sizeof(*answer));
	int rc;

	if (answer == NULL) {
		return -ENOMEM;
	}
	rc = spdk_nvme_ctrlr_cmd_admin_raw(ctrlr, cmd, data, bytes, daos_spdk_take_answer, answer);
	rc = daos_spdk_wait(ctrlr, answer, rc, limit_s);
	if (rc == 0) {
		*status = answer->status;
		free(answer);
	}
	return rc;
}

int
daos_spdk_firmware_download(struct spdk_nvme_ctrlr *ctrlr, void *data, uint32_t bytes, uint32_t offset, uint32_t *status)
{
	struct spdk_nvme_cmd cmd = {.opc = SPDK_NVME_OPC_FIRMWARE_IMAGE_DOWNLOAD};

	/* In double words, the first zero-based. */
	cmd.cdw10 = bytes / 4 - 1;
	cmd.cdw11 = offset / 4;
	return command(ctrlr, &cmd, data, bytes, 0, status);
}

int
daos_spdk_firmware_commit(struct spdk_nvme_ctrlr *ctrlr, uint32_t slot, uint32_t *status)
{
	struct spdk_nvme_cmd cmd = {.opc = SPDK_NVME_OPC_FIRMWARE_COMMIT};
	struct spdk_nvme_fw_commit commit = {.fs = slot, .ca = SPDK_NVME_FW_COMMIT_REPLACE_AND_ENABLE_IMG};
	int rc;

	memcpy(&cmd.cdw10, &commit, sizeof(commit));
	/* Drives take up to minutes for it. */
	daos_spdk_watch_admin(ctrlr, false);
	rc = command(ctrlr, &cmd, NULL, 0, DAOS_SPDK_COMMIT_TIMEOUT_S, status);
	daos_spdk_watch_admin(ctrlr, true);
	return rc;
}
