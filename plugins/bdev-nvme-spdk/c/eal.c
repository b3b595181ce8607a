/* What DPDK is started with. SPDK makes the arguments, and can be given one more; the linker puts this function between
 * the two (--wrap, where both are linked statically). */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Weak: nobody calls this function where the linker was not told so. */
int __real_rte_eal_init(int argc, char **argv) __attribute__((weak));
int __wrap_rte_eal_init(int argc, char **argv);

int
__wrap_rte_eal_init(int argc, char **argv)
{
	/* Telemetry has a socket. Of a process whose memory has no files its path is the same for all, in /tmp: a second
	 * process, of another user, could not take it and would not start. */
	static char quiet[] = "--no-telemetry";
	char **arguments = calloc((size_t)argc + 2, sizeof(*arguments));
	bool is_quiet = false;
	int count = 0, rc;

	if (arguments == NULL) {
		return -1;
	}
	for (int i = 0; i < argc; i++) {
		/* There are none, and newer versions refuse it beside --in-memory. */
		if (strcmp(argv[i], "--huge-unlink") == 0) {
			continue;
		}
		is_quiet |= strcmp(argv[i], quiet) == 0;
		arguments[count++] = argv[i];
	}
	if (!is_quiet) {
		arguments[count++] = quiet;
	}
	rc = __real_rte_eal_init(count, arguments);
	free(arguments);
	return rc;
}
