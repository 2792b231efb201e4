/* Preloaded into a redis-server: its wall clock is what the file TEST_CLOCK says, so that a test decides what TIME
 * says and when a key expires. The file holds two 64-bit integers: microseconds, and whether they are to be added
 * to this machine's clock; else they are the time since 1970, and the clock stands still.
 * (libfaketime does the like, but not under jemalloc, which redis-server uses.) */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *file;

static int64_t micros(void)
{
    if (!file) {
        int fd = open(getenv("TEST_CLOCK"), O_RDONLY);
        void *map = mmap(NULL, 2 * sizeof *file, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            abort();
        close(fd);
        file = map;
    }
    if (!file[1])
        return file[0];
    struct timespec real;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
    return file[0] + (int64_t)real.tv_sec * 1000000 + real.tv_nsec / 1000;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    int64_t now = micros();
    (void)zone;
    tv->tv_sec = now / 1000000;
    tv->tv_usec = now % 1000000;
    return 0;
}

time_t time(time_t *out)
{
    time_t now = micros() / 1000000;
    if (out)
        *out = now;
    return now;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, id, ts);
    int64_t now = micros();
    ts->tv_sec = now / 1000000;
    ts->tv_nsec = now % 1000000 * 1000;
    return 0;
}
