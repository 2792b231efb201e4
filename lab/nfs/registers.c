/* Preloaded into User-Mode Linux, so that it runs on processors with AMX. It keeps a program's floating-point registers in
 * 2696 bytes, where those of AMX make the whole set longer (ptrace(2), NT_X86_XSTATE): Linux refuses to set a part of it,
 * and the first program dies. So what it sets is made whole, with zeros: whoever has not asked Linux for AMX
 * (arch_prctl(2), ARCH_REQ_XCOMP_PERM) has nothing in those registers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

typedef long ptrace_function(int request, int pid, void *address, void *data);

/* User-Mode Linux has one thread. */
static ptrace_function *libc_ptrace;
static unsigned char whole[64 * 1024];
static size_t whole_size;

/* As ptrace(2); all four arguments are in registers, whether the caller gave them or not. */
long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	int pid = va_arg(arguments, int);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (!libc_ptrace)
		*(void **)&libc_ptrace = dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
		return libc_ptrace(request, pid, address, data);

	if (!whole_size) {
		struct iovec all = {whole, sizeof whole};
		if (libc_ptrace(PTRACE_GETREGSET, pid, address, &all) < 0)
			return -1;
		whole_size = all.iov_len;
		memset(whole, 0, sizeof whole);
	}
	const struct iovec *part = data;
	if (part->iov_len >= whole_size)
		return libc_ptrace(request, pid, address, data);
	memcpy(whole, part->iov_base, part->iov_len);
	struct iovec all = {whole, whole_size};
	return libc_ptrace(request, pid, address, &all);
}
