#include "admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const uint32_t daos_spdk_fua = SPDK_NVME_IO_FLAGS_FORCE_UNIT_ACCESS;

int
daos_spdk_env_init(unsigned core, unsigned memory_mib)
{
	struct spdk_env_opts opts;
	struct daos_spdk_output saved;
	char cores[16];
	int rc;

#ifdef DAOS_SPDK_ENV_OPTS_SIZE
	opts.opts_size = sizeof(opts);
#endif
	spdk_env_opts_init(&opts);
	/* A list in brackets: a mask cannot name a core above 63. */
	snprintf(cores, sizeof(cores), "[%u]", core);
	opts.name = "daos_plugin";
	opts.core_mask = cores;
	/* Huge pages without files: nothing is left behind by a process that is killed, and no right to write to a
	 * hugetlbfs is needed. */
	opts.env_context = "--in-memory";
	if (memory_mib != 0) {
		opts.mem_size = (int)memory_mib;
	}
	daos_spdk_log_output(&saved);
	rc = spdk_env_init(&opts);
	daos_spdk_log_output_end(&saved);
	return rc == 0 ? 0 : -EIO;
}

struct spdk_nvme_ctrlr *
daos_spdk_attach(const char *transport, uint32_t queue_entries)
{
	struct spdk_nvme_transport_id id = {};
	struct spdk_nvme_ctrlr_opts opts;
	struct spdk_nvme_ctrlr *ctrlr;

	if (spdk_nvme_transport_id_parse(&id, transport) != 0) {
		return NULL;
	}
	spdk_nvme_ctrlr_get_default_ctrlr_opts(&opts, sizeof(opts));
	opts.io_queue_size = queue_entries;
	/* Errors are reported in completions; the driver's own lines would flood the log. */
	opts.disable_error_logging = true;
	ctrlr = spdk_nvme_connect(&id, &opts, sizeof(opts));
	if (ctrlr != NULL) {
		daos_spdk_watch_admin(ctrlr, true);
	}
	return ctrlr;
}

bool
daos_spdk_is_removed(struct spdk_nvme_ctrlr *ctrlr)
{
	/* None on a fabric. */
	struct spdk_pci_device *pci = spdk_nvme_ctrlr_get_pci_device(ctrlr);

	return pci != NULL && spdk_pci_device_is_removed(pci);
}

bool
daos_spdk_ns_is_removed(struct spdk_nvme_ns *ns)
{
	return daos_spdk_is_removed(spdk_nvme_ns_get_ctrlr(ns));
}

int
daos_spdk_set_dma(struct spdk_nvme_ctrlr *ctrlr, bool allowed)
{
	const uint32_t command_register = 4;
	const uint16_t bus_master = 1 << 2;
	struct spdk_pci_device *pci = spdk_nvme_ctrlr_get_pci_device(ctrlr);
	uint16_t command;

	if (pci == NULL) {
		return 0;
	}
	if (spdk_pci_device_cfg_read16(pci, &command, command_register) != 0) {
		return -EIO;
	}
	command = allowed ? command | bus_master : command & (uint16_t)~bus_master;
	return spdk_pci_device_cfg_write16(pci, command, command_register) == 0 ? 0 : -EIO;
}

/* Copies a padded field of a controller's data as text. */
static void
copy_text(char *out, const int8_t *field, size_t len)
{
	while (len > 0 && (field[len - 1] == ' ' || field[len - 1] == 0)) {
		len--;
	}
	memcpy(out, field, len);
	out[len] = 0;
}

int
daos_spdk_controller_info(struct spdk_nvme_ctrlr *ctrlr, struct daos_spdk_controller_info *info)
{
	const struct spdk_nvme_ctrlr_data *data = spdk_nvme_ctrlr_get_data(ctrlr);
	struct answer *answer = calloc(1, sizeof(*answer));
	struct spdk_pci_device *pci;
	uint32_t submission, completion;
	int rc;

	if (answer == NULL) {
		return -ENOMEM;
	}

	memset(info, 0, sizeof(*info));
	copy_text(info->model, data->mn, sizeof(data->mn));
	copy_text(info->serial, data->sn, sizeof(data->sn));
	copy_text(info->firmware, (const int8_t *)data->fr, sizeof(data->fr));
	info->queue_entries = (uint32_t)spdk_nvme_ctrlr_get_regs_cap(ctrlr).bits.mqes + 1;
	pci = spdk_nvme_ctrlr_get_pci_device(ctrlr);
#ifdef DAOS_SPDK_NUMA_ID
	info->numa_node = pci == NULL ? -1 : spdk_pci_device_get_numa_id(pci);
#else
	info->numa_node = pci == NULL ? -1 : spdk_pci_device_get_socket_id(pci);
#endif
	info->volatile_cache = data->vwc.present;
	info->can_format = (daos_spdk_identified(data, DAOS_SPDK_CTRLR_OACS) & DAOS_SPDK_OACS_FORMAT) != 0;
	info->formats_all = data->fna.format_all_ns || data->fna.erase_all_ns;
	info->sgl = data->sgls.supported != 0;

	/* The driver knows how many queues it was granted but does not tell. */
	rc = spdk_nvme_ctrlr_cmd_get_feature(ctrlr, SPDK_NVME_FEAT_NUMBER_OF_QUEUES, 0, NULL, 0, daos_spdk_take_answer, answer);
	rc = daos_spdk_wait_for(ctrlr, answer, rc);
	if (rc != 0) {
		return rc;
	}
	submission = (answer->value & 0xffff) + 1;
	completion = (answer->value >> 16) + 1;
	free(answer);
	info->io_queues = submission < completion ? submission : completion;
	return 0;
}

int
daos_spdk_health_page(struct spdk_nvme_ctrlr *ctrlr, uint8_t page[DAOS_SPDK_HEALTH_BYTES])
{
	struct answer *answer = calloc(1, sizeof(*answer));
	int rc;

	if (answer == NULL) {
		return -ENOMEM;
	}
	rc = spdk_nvme_ctrlr_cmd_get_log_page(ctrlr, SPDK_NVME_LOG_HEALTH_INFORMATION, SPDK_NVME_GLOBAL_NS_TAG,
					      answer->page, sizeof(answer->page), 0, daos_spdk_take_answer, answer);
	rc = daos_spdk_wait_for(ctrlr, answer, rc);
	if (rc == 0) {
		memcpy(page, answer->page, DAOS_SPDK_HEALTH_BYTES);
		free(answer);
	}
	return rc;
}

int
daos_spdk_format(struct spdk_nvme_ctrlr *ctrlr, uint32_t nsid)
{
	struct spdk_nvme_ns *ns = spdk_nvme_ctrlr_get_ns(ctrlr, nsid);
	const struct spdk_nvme_ns_data *data;
	struct spdk_nvme_format format = {};
	int rc;

	if (ns == NULL) {
		return -ENODEV;
	}
	data = spdk_nvme_ns_get_data(ns);
	format.lbaf = data->flbas.format;
	/* NVMe 2.0 has 64 formats and two bits more for their number, which this command does not carry here. */
	if (daos_spdk_identified(data, DAOS_SPDK_NS_NLBAF) > 15 &&
	    (daos_spdk_identified(data, DAOS_SPDK_NS_FLBAS) & DAOS_SPDK_FLBAS_HIGH) != 0) {
		return -ENOTSUP;
	}
	format.ms = data->flbas.extended;
	format.pi = data->dps.pit;
	format.pil = data->dps.md_start;
	format.ses = SPDK_NVME_FMT_NVM_SES_USER_DATA_ERASE;
	/* Takes as long as the device takes. */
	daos_spdk_watch_admin(ctrlr, false);
	rc = spdk_nvme_ctrlr_format(ctrlr, nsid, &format);
	daos_spdk_watch_admin(ctrlr, true);
	return rc;
}

void
daos_spdk_namespace_info(struct spdk_nvme_ns *ns, struct daos_spdk_namespace_info *info)
{
	const struct spdk_nvme_ctrlr_data *controller = spdk_nvme_ctrlr_get_data(spdk_nvme_ns_get_ctrlr(ns));
	const struct spdk_nvme_ns_data *data = spdk_nvme_ns_get_data(ns);
	uint32_t flags = spdk_nvme_ns_get_flags(ns);

	memset(info, 0, sizeof(*info));
	info->blocks = spdk_nvme_ns_get_num_sectors(ns);
	info->block_size = spdk_nvme_ns_get_sector_size(ns);
	info->metadata_size = spdk_nvme_ns_get_md_size(ns);
	info->max_transfer_bytes = spdk_nvme_ns_get_max_io_xfer_size(ns);
	info->atomic_blocks = (data->nsfeat.ns_atomic_write_unit ? data->nawupf : controller->awupf) + 1u;
	if (flags & SPDK_NVME_NS_DEALLOCATE_SUPPORTED) {
		/* The preferred granularity that NVMe 1.4 reports is not in 20.07's structures, and a preference only. */
		info->deallocate_blocks = 1;
	}
	info->shared = (daos_spdk_identified(data, DAOS_SPDK_NS_NMIC) & DAOS_SPDK_NMIC_SHARED) != 0;
	info->write_zeroes = (flags & SPDK_NVME_NS_WRITE_ZEROES_SUPPORTED) != 0;
	info->compare = (flags & SPDK_NVME_NS_COMPARE_SUPPORTED) != 0;
}

struct spdk_nvme_qpair *
daos_spdk_queue_open(struct spdk_nvme_ctrlr *ctrlr, uint32_t depth, uint32_t entries)
{
	struct spdk_nvme_io_qpair_opts opts;
	const uint32_t splits = 4; /* commands that one request may need on the average, see the README */

	spdk_nvme_ctrlr_get_default_io_qpair_opts(ctrlr, &opts, sizeof(opts));
	opts.io_queue_size = entries;
	opts.io_queue_requests = depth * splits > 256 ? depth * splits : 256;
	/* One doorbell a batch instead of one a command. It is rung behind a look at the completions, which a batch of one
	 * would only wait for. */
	opts.delay_cmd_submit = depth > 1;
	return spdk_nvme_ctrlr_alloc_io_qpair(ctrlr, &opts, sizeof(opts));
}

int
daos_spdk_deallocate(struct spdk_nvme_ns *ns, struct spdk_nvme_qpair *qpair, uint64_t lba, uint32_t blocks,
		     spdk_nvme_cmd_cb done, void *arg)
{
	struct spdk_nvme_dsm_range range = {.starting_lba = lba, .length = blocks};

	/* The driver copies the range. */
	return spdk_nvme_ns_cmd_dataset_management(ns, qpair, SPDK_NVME_DSM_ATTR_DEALLOCATE, &range, 1, done, arg);
}

static enum daos_spdk_outcome
generic_outcome(unsigned code)
{
	switch (code) {
	case SPDK_NVME_SC_SUCCESS:
		return DAOS_SPDK_OK;
	case SPDK_NVME_SC_INVALID_OPCODE:
		return DAOS_SPDK_UNSUPPORTED;
	case SPDK_NVME_SC_INVALID_FIELD:
	case SPDK_NVME_SC_INVALID_NAMESPACE_OR_FORMAT:
	case SPDK_NVME_SC_LBA_OUT_OF_RANGE:
		return DAOS_SPDK_INVALID;
	case SPDK_NVME_SC_ABORTED_BY_REQUEST:
	case SPDK_NVME_SC_ABORTED_SQ_DELETION:
		return DAOS_SPDK_ABORTED;
	case SPDK_NVME_SC_CAPACITY_EXCEEDED:
		return DAOS_SPDK_CAPACITY;
	default:
		return DAOS_SPDK_FAILED;
	}
}

enum daos_spdk_outcome
daos_spdk_outcome(const struct spdk_nvme_cpl *cpl)
{
	switch (cpl->status.sct) {
	case SPDK_NVME_SCT_GENERIC:
		return generic_outcome(cpl->status.sc);
	case SPDK_NVME_SCT_COMMAND_SPECIFIC:
		return cpl->status.sc == SPDK_NVME_SC_ATTEMPTED_WRITE_TO_RO_RANGE ? DAOS_SPDK_DENIED : DAOS_SPDK_FAILED;
	case SPDK_NVME_SCT_MEDIA_ERROR:
		switch (cpl->status.sc) {
		case SPDK_NVME_SC_COMPARE_FAILURE:
			return DAOS_SPDK_MISCOMPARE;
		case SPDK_NVME_SC_ACCESS_DENIED:
			return DAOS_SPDK_DENIED;
		default:
			return DAOS_SPDK_MEDIA;
		}
	default:
		return DAOS_SPDK_FAILED;
	}
}

enum daos_spdk_notice
daos_spdk_notice(const struct spdk_nvme_cpl *cpl)
{
	union spdk_nvme_async_event_completion event = {.raw = cpl->cdw0};

	if (spdk_nvme_cpl_is_error(cpl)) {
		return DAOS_SPDK_NOTICE_OTHER;
	}
	switch (event.bits.async_event_type) {
	case SPDK_NVME_ASYNC_EVENT_TYPE_SMART:
		return DAOS_SPDK_NOTICE_HEALTH;
	case SPDK_NVME_ASYNC_EVENT_TYPE_ERROR:
		return DAOS_SPDK_NOTICE_FAILURE;
	case SPDK_NVME_ASYNC_EVENT_TYPE_NOTICE:
		return event.bits.async_event_info == SPDK_NVME_ASYNC_EVENT_NS_ATTR_CHANGED ? DAOS_SPDK_NOTICE_NAMESPACE :
		       DAOS_SPDK_NOTICE_OTHER;
	default:
		return DAOS_SPDK_NOTICE_OTHER;
	}
}
