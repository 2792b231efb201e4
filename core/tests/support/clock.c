/* Preloaded into a redis-server: its wall clock is what the file MODEL_CLOCK says (microseconds since 1970, a
 * 64-bit integer), and stands still in between. A test so decides what TIME says and when a key expires. */
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
        int fd = open(getenv("MODEL_CLOCK"), O_RDONLY);
        void *map = mmap(NULL, sizeof *file, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            abort();
        close(fd);
        file = map;
    }
    return *file;
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
