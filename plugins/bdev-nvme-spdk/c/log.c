/* The log of SPDK, and the stream that DPDK logs to, as lines for one function. */
#define _GNU_SOURCE /* fopencookie */
#include "admin.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <spdk/log.h>

/* Of DPDK, whose headers an installed SPDK need not have. */
int rte_openlog_stream(FILE *stream);

_Thread_local bool daos_spdk_deletion_failed;

static daos_spdk_log_fn log_line;
static FILE *stream;

static void
hand_over(int level, const char *text, size_t len)
{
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' ')) {
		len--;
	}
	if (len > 0) {
		log_line(level, text, len);
	}
}

static void
forward(int level, const char *file, const int line, const char *func, const char *format, va_list args)
{
	char text[512];
	int len = vsnprintf(text, sizeof(text), format, args);

	/* The commands' names in each of the driver's complaints about them. */
	if (len >= 0 && level == SPDK_LOG_ERROR && strstr(text, "delete_io_") != NULL) {
		daos_spdk_deletion_failed = true;
	}
	if (len >= 0) {
		hand_over(level, text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
	}
}

/* What DPDK writes. The stream is line-buffered, so that lines arrive whole. DPDK's levels are lost on the way:
 * a problem is reported by the call that it makes fail, with these lines as its explanation. */
static ssize_t
take_bytes(void *cookie, const char *bytes, size_t len)
{
	size_t start = 0;

	for (size_t at = 0; at < len; at++) {
		if (bytes[at] == '\n') {
			hand_over(SPDK_LOG_INFO, bytes + start, at - start);
			start = at + 1;
		}
	}
	if (start < len) {
		hand_over(SPDK_LOG_INFO, bytes + start, len - start);
	}
	return (ssize_t)len;
}

void
daos_spdk_log_to(daos_spdk_log_fn line)
{
	const cookie_io_functions_t functions = {.write = take_bytes};

	log_line = line;
	spdk_log_open(forward);
	spdk_log_set_print_level(SPDK_LOG_NOTICE);
	stream = fopencookie(NULL, "w", functions);
	if (stream != NULL) {
		setvbuf(stream, NULL, _IOLBF, BUFSIZ);
		rte_openlog_stream(stream);
	}
}

void
daos_spdk_log_output(struct daos_spdk_output *saved)
{
	saved->output = stdout;
	saved->errors = stderr;
	if (stream != NULL) {
		stdout = stream;
		stderr = stream;
	}
}

void
daos_spdk_log_output_end(const struct daos_spdk_output *saved)
{
	if (stream != NULL) {
		fflush(stream);
	}
	stdout = saved->output;
	stderr = saved->errors;
}
