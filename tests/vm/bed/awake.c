/* Keeps the emulator's thread that plays the controllers from going to sleep, for measurements; `tests/vm/run --awake` loads it into
 * the emulator.
 *
 * A controller of silicon need not be woken up, and a doorbell never waits for one. QEMU's sleeps in ppoll(2) between two requests and
 * works under a lock that a processor needs for each doorbell; whoever finds it taken sleeps, too. Each takes longer than a request, so
 * that at depth 1 the same software is two to five times as fast or as slow by a hundred instructions, also by fewer of them. Here both
 * look again and again instead, which costs a processor.
 *
 * Built with: gcc -shared -fPIC -O2 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

/* How long the thread looks for something to do after the last event, and how often a thread looks whether a lock is free. */
#define LOOK_US 1000
#define LOOKS 10000

typedef int ppoll_fn(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
typedef int lock_fn(pthread_mutex_t *);

static ppoll_fn *real_ppoll;
static lock_fn *real_lock;

__attribute__((constructor)) static void
find(void)
{
	real_ppoll = (ppoll_fn *)dlsym(RTLD_NEXT, "ppoll");
	real_lock = (lock_fn *)dlsym(RTLD_NEXT, "pthread_mutex_lock");
}

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
	const struct timespec none = {0, 0};
	long limit = LOOK_US, begun = now_us();
	bool ends = false;
	int found;

	/* The other threads wait for work of other kinds. */
	if (gettid() != getpid()) {
		return real_ppoll(fds, count, timeout, mask);
	}
	if (timeout != NULL && timeout->tv_sec == 0 && timeout->tv_nsec / 1000 < limit) {
		limit = timeout->tv_nsec / 1000;
		ends = true;
	}
	do {
		found = real_ppoll(fds, count, &none, mask);
		if (found != 0) {
			return found;
		}
	} while (now_us() - begun < limit);
	return ends ? 0 : real_ppoll(fds, count, timeout, mask);
}

int
pthread_mutex_lock(pthread_mutex_t *mutex)
{
	int look;

	for (look = 0; look < LOOKS; look++) {
		if (pthread_mutex_trylock(mutex) == 0) {
			return 0;
		}
		__builtin_ia32_pause();
	}
	/* Never before the constructor: nothing contends for a lock then. */
	return real_lock(mutex);
}
