/* Kills a program on its way into a call by which it changes something: loaded into it (LD_PRELOAD), counts writes to files and
 * commands that write a memory module's config data, and ends the process by SIGKILL in place of the call that KILL_AT numbers. What goes to
 * the standard streams does not count. (strace can do that as well, but slows an emulated processor down twentyfold.) */
#define _GNU_SOURCE
#include <linux/ioctl.h>
#include <linux/ndctl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Code of the module's firmware, and of the part of it: "set admin features", "platform config data". */
#define WRITE_CONFIG 0x0107

static void reached(int file)
{
	static long left = -1;

	if (file <= STDERR_FILENO)
		return;
	if (left < 0) {
		const char *at = getenv("KILL_AT");

		left = at ? atol(at) : 0;
	}
	if (left > 0 && --left == 0)
		kill(getpid(), SIGKILL);
}

ssize_t write(int file, const void *bytes, size_t count)
{
	reached(file);
	return syscall(SYS_write, file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t at)
{
	reached(file);
	return syscall(SYS_pwrite64, file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) __attribute__((alias("pwrite64")));

int ioctl(int file, unsigned long command, ...)
{
	va_list rest;
	void *argument;

	va_start(rest, command);
	argument = va_arg(rest, void *);
	va_end(rest);
	/* libndctl has it as an int, which is negative. */
	if ((unsigned int)command == ND_IOCTL_VENDOR && ((struct nd_cmd_vendor_hdr *)argument)->opcode == WRITE_CONFIG)
		reached(file);
	return syscall(SYS_ioctl, file, command, argument);
}
