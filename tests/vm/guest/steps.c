/* How many instructions a program executes between two passes of a function: counted by stepping through them one by one,
 * which needs no counters of the processor, so that it works on an emulated one. So slow a program never waits for its
 * device: what is counted is the way through the software alone, without empty polls.
 *
 * usage: steps PID ADDRESS PASSES
 *
 * PID is a running thread, ADDRESS (hexadecimal) is where the function begins in its memory. Prints the least and the mean
 * number of instructions from one pass to the next. The program is killed at the end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>

int
main(int argc, char **argv)
{
	struct user_regs_struct registers;
	unsigned long address;
	long passes, seen = -1, steps = 0, total = 0, least = -1;
	pid_t pid;
	int status;

	if (argc != 4 || (passes = atol(argv[3])) < 1) {
		fprintf(stderr, "usage: steps PID ADDRESS PASSES\n");
		return 2;
	}
	pid = atoi(argv[1]);
	address = strtoul(argv[2], NULL, 16);
	if (ptrace(PTRACE_ATTACH, pid, 0, 0) != 0 || waitpid(pid, &status, __WALL) != pid) {
		perror("steps: attach");
		return 1;
	}
	while (seen < passes) {
		if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) != 0 || waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status) ||
		    WSTOPSIG(status) != SIGTRAP || ptrace(PTRACE_GETREGS, pid, 0, &registers) != 0) {
			fprintf(stderr, "steps: the program stopped by itself, status %x\n", status);
			return 1;
		}
		steps++;
		if (registers.rip == address) {
			if (seen >= 0) {
				total += steps;
				least = least < 0 || steps < least ? steps : least;
			}
			seen++;
			steps = 0;
		}
	}
	kill(pid, SIGKILL);
	printf("%ld %ld\n", least, total / passes);
	return 0;
}
