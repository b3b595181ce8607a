/* An NVMe-oF target of SPDK's whose controllers have firmware: SPDK answers everything but the commands about that.
 *
 * usage: nvmf-firmware CONFIG.json STATE [COMMIT-STATUS]
 *        nvmf-firmware --image FILE REVISION BYTES
 *
 * CONFIG.json is a configuration of SPDK's (subsystems bdev and nvmf). STATE is a file with what is in the slots; made if
 * it does not exist. COMMIT-STATUS (hexadecimal, type in bits 8 to 10) is what a commit that succeeds ends with, 0 unless
 * given. With --image it writes an image that this firmware takes: "FWIMAGE1", the revision, the length and a sum of all
 * words behind that.
 *
 * It keeps to the NVMe base specification (Firmware Image Download, Firmware Commit, Firmware Slot Information): an image
 * is pieced together from a multiple of the granularity, without gaps or overlaps; what was committed runs from the next
 * reset on; a reset discards what was not committed. A reset of a controller on a fabric is a new association. */
#include <spdk/stdinc.h>
#include <spdk/event.h>
#include <spdk/nvmf.h>
#include <spdk/nvmf_cmd.h>
#include <spdk/nvme_spec.h>

#define SLOTS 3
#define GRANULARITY 4096u /* a unit of FWUG */
#define MAX_IMAGE (16u << 20)

struct header {
	char magic[8];
	char revision[8];
	uint32_t words; /* of the payload */
	uint32_t sum;
};

static struct {
	char revision[SLOTS][8];
	uint8_t active;
	uint8_t next; /* 0 = none */
} firmware = {.revision = {"1.0     "}, .active = 1};

static const char *state_path;
static unsigned commit_status;
static uint8_t image[MAX_IMAGE];
static uint32_t received;   /* bytes of an image, from its start, without gap */
static int association = -1; /* number of the controller that was spoken to last */

static void
save(void)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s.new", state_path);
	file = fopen(path, "wb");
	if (file == NULL || fwrite(&firmware, sizeof(firmware), 1, file) != 1 || fclose(file) != 0 ||
	    rename(path, state_path) != 0) {
		perror(state_path);
		exit(1);
	}
}

static void
load(void)
{
	FILE *file = fopen(state_path, "rb");

	if (file != NULL) {
		if (fread(&firmware, sizeof(firmware), 1, file) != 1) {
			fprintf(stderr, "%s is no state of firmware\n", state_path);
			exit(1);
		}
		fclose(file);
	}
}

/* What happens at a reset of the controller: another association than the last one speaks. */
static void
look_for_reset(struct spdk_nvmf_request *req)
{
	struct spdk_nvme_ctrlr_data data = {};

	spdk_nvmf_ctrlr_identify_ctrlr(spdk_nvmf_request_get_ctrlr(req), &data);
	if (data.cntlid == association) {
		return;
	}
	association = data.cntlid;
	printf("reset: association %d, %u bytes of an image discarded\n", association, received);
	received = 0;
	/* Resets of a controller whose firmware wants more than that leave it as it is. */
	if (firmware.next != 0 && (commit_status == 0 || commit_status == 0x111)) {
		firmware.active = firmware.next;
		firmware.next = 0;
		save();
		printf("slot %u runs\n", firmware.active);
	}
	fflush(stdout);
}

static int
end(struct spdk_nvmf_request *req, unsigned status)
{
	struct spdk_nvme_cpl *cpl = spdk_nvmf_request_get_response(req);

	cpl->status.sct = status >> 8;
	cpl->status.sc = status & 0xff;
	return SPDK_NVMF_REQUEST_EXEC_STATUS_COMPLETE;
}

static int
identify(struct spdk_nvmf_request *req)
{
	struct spdk_nvme_cmd *cmd = spdk_nvmf_request_get_cmd(req);
	struct spdk_nvme_ctrlr_data *data;
	void *buffer;
	uint32_t length;
	int status;

	look_for_reset(req);
	if ((cmd->cdw10 & 0xff) != SPDK_NVME_IDENTIFY_CTRLR) {
		return -1;
	}
	spdk_nvmf_request_get_data(req, &buffer, &length);
	if (buffer == NULL || length < sizeof(*data)) {
		return end(req, SPDK_NVME_SC_INVALID_FIELD);
	}
	data = buffer;
	memset(data, 0, sizeof(*data));
	status = spdk_nvmf_ctrlr_identify_ctrlr(spdk_nvmf_request_get_ctrlr(req), data);
	memcpy(data->fr, firmware.revision[firmware.active - 1], sizeof(data->fr));
	data->oacs.firmware = 1;
	data->frmw.slot1_ro = 1;
	data->frmw.num_slots = SLOTS;
	data->fwug = GRANULARITY / 4096;
	return status;
}

static int
get_log_page(struct spdk_nvmf_request *req)
{
	struct spdk_nvme_cmd *cmd = spdk_nvmf_request_get_cmd(req);
	struct spdk_nvme_firmware_page page = {};
	void *buffer;
	uint32_t length;

	if ((cmd->cdw10 & 0xff) != SPDK_NVME_LOG_FIRMWARE_SLOT) {
		return -1;
	}
	look_for_reset(req);
	spdk_nvmf_request_get_data(req, &buffer, &length);
	page.afi.active_slot = firmware.active;
	page.afi.next_reset_slot = firmware.next;
	memcpy(page.revision, firmware.revision, sizeof(firmware.revision));
	memset(buffer, 0, length);
	memcpy(buffer, &page, length < sizeof(page) ? length : sizeof(page));
	return end(req, 0);
}

static int
download(struct spdk_nvmf_request *req)
{
	struct spdk_nvme_cmd *cmd = spdk_nvmf_request_get_cmd(req);
	uint64_t bytes = ((uint64_t)cmd->cdw10 + 1) * 4, offset = (uint64_t)cmd->cdw11 * 4;
	void *buffer;
	uint32_t length;

	look_for_reset(req);
	spdk_nvmf_request_get_data(req, &buffer, &length);
	if (buffer == NULL || length != bytes || offset % GRANULARITY != 0 || offset + bytes > MAX_IMAGE) {
		return end(req, SPDK_NVME_SC_INVALID_FIELD);
	}
	if (offset < received) {
		return end(req, 0x114); /* overlapping range */
	}
	/* A gap, or a piece after one that was not whole units, which only the last may be. */
	if (offset != received) {
		return end(req, SPDK_NVME_SC_COMMAND_SEQUENCE_ERROR);
	}
	memcpy(image + offset, buffer, bytes);
	received = offset + bytes;
	return end(req, 0);
}

static uint32_t
sum(const uint8_t *data, uint32_t words)
{
	uint32_t word, total = 0;

	for (uint32_t i = 0; i < words; i++) {
		memcpy(&word, data + 4 * (size_t)i, 4);
		total = total * 31 + word;
	}
	return total;
}

static bool
image_is_good(void)
{
	struct header header;

	if (received < sizeof(header)) {
		return false;
	}
	memcpy(&header, image, sizeof(header));
	return memcmp(header.magic, "FWIMAGE1", sizeof(header.magic)) == 0 &&
	       header.words == (received - sizeof(header)) / 4 &&
	       header.sum == sum(image + sizeof(header), header.words);
}

static int
commit(struct spdk_nvmf_request *req)
{
	struct spdk_nvme_cmd *cmd = spdk_nvmf_request_get_cmd(req);
	unsigned slot = cmd->cdw10 & 7, action = cmd->cdw10 >> 3 & 7;

	look_for_reset(req);
	if (action != SPDK_NVME_FW_COMMIT_REPLACE_AND_ENABLE_IMG) {
		return end(req, SPDK_NVME_SC_INVALID_FIELD);
	}
	if (slot == 0) {
		slot = firmware.active == 2 ? 3 : 2;
	}
	if (slot == 1 || slot > SLOTS) {
		return end(req, 0x100 | SPDK_NVME_SC_INVALID_FIRMWARE_SLOT);
	}
	if (!image_is_good()) {
		received = 0;
		return end(req, 0x100 | SPDK_NVME_SC_INVALID_FIRMWARE_IMAGE);
	}
	memcpy(firmware.revision[slot - 1], ((struct header *)image)->revision, 8);
	firmware.next = slot;
	received = 0;
	save();
	printf("committed %.8s to slot %u\n", firmware.revision[slot - 1], slot);
	fflush(stdout);
	return end(req, commit_status);
}

static int
write_image(const char *path, const char *revision, uint32_t bytes)
{
	struct header *header = (struct header *)image;
	uint32_t length;
	FILE *file;

	if (bytes < sizeof(*header) || bytes > MAX_IMAGE || bytes % 4 != 0) {
		fprintf(stderr, "an image has %zu to %u bytes, a multiple of 4\n", sizeof(*header), MAX_IMAGE);
		return 2;
	}
	memcpy(header->magic, "FWIMAGE1", 8);
	memset(header->revision, ' ', 8);
	memcpy(header->revision, revision, strnlen(revision, 8));
	header->words = (bytes - sizeof(*header)) / 4;
	length = strlen(revision);
	for (uint32_t i = sizeof(*header); i < bytes; i++) {
		image[i] = i * 7 + revision[i % length];
	}
	header->sum = sum(image + sizeof(*header), header->words);
	file = fopen(path, "wb");
	if (file == NULL || fwrite(image, bytes, 1, file) != 1 || fclose(file) != 0) {
		perror(path);
		return 1;
	}
	return 0;
}

/* A reactor never sleeps, at the cost of all else that an emulated processor has to do: here it does, for microseconds, each time that
 * it has looked at everything. */
static int
nap(void *arg)
{
	usleep(50);
	return 0;
}

static void
started(void *arg)
{
	spdk_poller_register(nap, NULL, 0);
	printf("ready\n");
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	struct spdk_app_opts opts;
	int rc;

	if (argc == 5 && strcmp(argv[1], "--image") == 0 && argv[3][0] != 0) {
		return write_image(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	}
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: nvmf-firmware CONFIG.json STATE [COMMIT-STATUS] | --image FILE REVISION BYTES\n");
		return 2;
	}
	state_path = argv[2];
	commit_status = argc == 4 ? strtoul(argv[3], NULL, 16) : 0;
	load();
	spdk_nvmf_set_custom_admin_cmd_hdlr(SPDK_NVME_OPC_IDENTIFY, identify);
	spdk_nvmf_set_custom_admin_cmd_hdlr(SPDK_NVME_OPC_GET_LOG_PAGE, get_log_page);
	spdk_nvmf_set_custom_admin_cmd_hdlr(SPDK_NVME_OPC_FIRMWARE_IMAGE_DOWNLOAD, download);
	spdk_nvmf_set_custom_admin_cmd_hdlr(SPDK_NVME_OPC_FIRMWARE_COMMIT, commit);

	spdk_app_opts_init(&opts);
	opts.name = "nvmf-firmware";
	opts.json_config_file = argv[1];
	opts.mem_size = 128;
	opts.no_pci = true;
	/* Huge pages without files, beside those of the program under test. */
	opts.env_context = "--in-memory";
	rc = spdk_app_start(&opts, started, NULL);
	spdk_app_fini();
	return rc == 0 ? 0 : 1;
}
