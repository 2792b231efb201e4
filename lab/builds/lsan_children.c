/*
 * Linked into the PHP that AddressSanitizer is built into. A forked child does not have its parent's threads;
 * LeakSanitizer would wait for them in vain, or take what they own for lost. Children are still watched for wild accesses.
 */
#include <unistd.h>

static pid_t first;

__attribute__((constructor)) static void remember(void)
{
	first = getpid();
}

int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return getpid() != first;
}
