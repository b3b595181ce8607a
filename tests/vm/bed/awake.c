/* Keeps the emulator's main thread, which plays the controllers, from going to sleep between two requests; loaded into it by
 * `tests/vm/run --preload`, for measurements only.
 *
 * A controller of silicon does not have to be woken up. QEMU's does, when a guest needs more than a few microseconds from the end of
 * one request to the next doorbell; so the same software is in one of two modes at depth 1, and 1000 emulated instructions more
 * halve its rate. Here the thread looks for events, without sleeping, for SPIN_US after the last one. It costs a processor.
 *
 * Built with: gcc -shared -fPIC -O2 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define SPIN_US 1000

typedef int ppoll_fn(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);

static long
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int
ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
	static ppoll_fn *real;
	const struct timespec none = {0, 0};
	long limit = SPIN_US, begun;
	int found, whole = 0;

	if (real == NULL) {
		real = (ppoll_fn *)dlsym(RTLD_NEXT, "ppoll");
	}
	/* The other threads carry requests out and wait for work. */
	if (gettid() != getpid()) {
		return real(fds, count, timeout, mask);
	}
	if (timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec / 1000 < limit) {
		/* A timer of the emulator ends before. */
		limit = timeout->tv_nsec / 1000;
		whole = 1;
	}
	for (begun = now_us(); now_us() - begun < limit;) {
		found = real(fds, count, &none, mask);
		if (found != 0) {
			return found;
		}
	}
	return whole ? 0 : real(fds, count, timeout, mask);
}
