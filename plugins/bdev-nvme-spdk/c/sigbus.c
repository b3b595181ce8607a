/* Chains SPDK's handler of SIGBUS with the one that it replaces. SPDK's expects that every SIGBUS comes from the
 * registers of its devices (one that was pulled out), and does harm in any other case: a media error on mapped
 * persistent memory, a file that was cut. */
#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* More mappings of registers than a process has controllers, each with one or two. */
#define MAX_RANGES 256

static struct {
	_Atomic uintptr_t start;
	_Atomic uintptr_t end;
} ranges[MAX_RANGES];

/* Written before the handler is installed, and when it has been replaced. */
static struct sigaction drivers;
static struct sigaction before;
static bool have_driver;

/* Runs before SPDK's own constructor, which has no priority. */
__attribute__((constructor(101))) static void
remember(void)
{
	sigaction(SIGBUS, NULL, &before);
}

static void
handle(int number, siginfo_t *info, void *context)
{
	const uintptr_t at = (uintptr_t)info->si_addr;

	for (size_t i = 0; i < MAX_RANGES; i++) {
		if (at >= atomic_load(&ranges[i].start) && at < atomic_load(&ranges[i].end)) {
			drivers.sa_sigaction(number, info, context);
			return;
		}
	}
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(number, info, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(number);
	} else {
		/* The access is made again, and ends the process as it would have without us. */
		signal(SIGBUS, SIG_DFL);
	}
}

/* Whether a handler is SPDK's: it lies in the same object as SPDK does. */
static bool
is_drivers(const struct sigaction *action)
{
	Dl_info handler, driver, environment;

	return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction != handle &&
	       dladdr((void *)action->sa_sigaction, &handler) != 0 &&
	       ((dladdr((void *)spdk_nvme_connect, &driver) != 0 && handler.dli_fbase == driver.dli_fbase) ||
		(dladdr((void *)spdk_env_init, &environment) != 0 && handler.dli_fbase == environment.dli_fbase));
}

void
daos_spdk_sigbus_before(void)
{
	struct sigaction now;

	sigaction(SIGBUS, NULL, &now);
	if (now.sa_sigaction != handle && !is_drivers(&now)) {
		before = now;
	}
}

/* Notes where the registers of devices are mapped, by the names of the mappings. */
static void
find_ranges(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned long start, end;
	size_t count = 0;

	if (maps == NULL) {
		return;
	}
	while (fgets(line, sizeof(line), maps) != NULL && count < MAX_RANGES) {
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 &&
		    (strstr(line, "vfio-device") != NULL || strstr(line, "/dev/vfio/") != NULL ||
		     strstr(line, "/dev/uio") != NULL ||
		     (strstr(line, "/sys/") != NULL && strstr(line, "/resource") != NULL))) {
			/* Empty in between, so that no reader sees one range's start with another's end. */
			atomic_store(&ranges[count].end, 0);
			atomic_store(&ranges[count].start, start);
			atomic_store(&ranges[count].end, end);
			count++;
		}
	}
	fclose(maps);
	for (; count < MAX_RANGES; count++) {
		atomic_store(&ranges[count].end, 0);
	}
}

void
daos_spdk_sigbus_after(void)
{
	struct sigaction now, ours;

	find_ranges();
	sigaction(SIGBUS, NULL, &now);
	if (is_drivers(&now)) {
		drivers = now;
		have_driver = true;
	} else if (now.sa_sigaction == handle || !have_driver) {
		return;
	} else {
		/* Somebody came after us; what is not a device's is theirs. */
		before = now;
	}
	memset(&ours, 0, sizeof(ours));
	ours.sa_sigaction = handle;
	/* The handler before may need the alternative stack: Rust's reports overflows of stacks. */
	ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigemptyset(&ours.sa_mask);
	sigaction(SIGBUS, &ours, NULL);
}
