/*
 * A clock that can be set, for a server alone: LD_PRELOAD. CHAOS_CLOCK names a file of eight bytes, a signed number of
 * nanoseconds by which the server's clock is ahead of the machine's; whoever writes there sets it. What lasts is measured by the
 * other clocks, which nobody sets. (libfaketime does not go with jemalloc, which asks for the time before anything is loaded.)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void open_clock(void)
{
	const char *path = getenv("CHAOS_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (file >= 0) {
		void *found = mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, file, 0);
		ahead = found == MAP_FAILED ? NULL : found;
		close(file);
	}
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long done = syscall(SYS_clock_gettime, clock, now);

	if (done == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		int64_t at = (int64_t) now->tv_sec * 1000000000 + now->tv_nsec + *ahead;
		now->tv_sec = (time_t) (at / 1000000000);
		now->tv_nsec = (long) (at % 1000000000);
	}
	return (int) done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec at;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &at) != 0) {
		return -1;
	}
	now->tv_sec = at.tv_sec;
	now->tv_usec = at.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *where)
{
	struct timespec at;

	if (clock_gettime(CLOCK_REALTIME, &at) != 0) {
		return -1;
	}
	if (where) {
		*where = at.tv_sec;
	}
	return at.tv_sec;
}
