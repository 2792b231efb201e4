/*
 * Locks on streams: cluster_flock(), and our operations before those of PHP's plain streams. All ways
 * of locking and closing one pass through these: flock(), SplFileObject::flock(),
 * file_put_contents(LOCK_EX), fclose(), a variable that goes out of scope, the end of the request.
 */
#include "zend_glue.h"

#include "ext/standard/file.h"
#include "ext/standard/flock_compat.h"
#include "ext/standard/php_filestat.h"
#include "fopen_wrappers.h"
#include "php_streams.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

static int (*next_set_option)(php_stream *stream, int option, int value, void *parameter);
static int (*next_close)(php_stream *stream, int close_handle);

/* The stream that cluster_flock() is locking, for the operation that it thereby calls. */
static CLK_PER_THREAD php_stream *locking_by_name;

bool clk_shim_same_open_file(int one, int other)
{
	if (one == other) {
		return true;
	}
#ifdef SYS_kcmp
	/* KCMP_FILE of <linux/kcmp.h>. Fails where the kernel has been built without, or a container
	 * forbids it. */
	pid_t pid = getpid();
	return syscall(SYS_kcmp, pid, pid, 0, (unsigned long) one, (unsigned long) other) == 0;
#else
	return false;
#endif
}

bool clk_shim_set_inherited(int fd, bool inherited)
{
	int flags = fcntl(fd, F_GETFD);

	return flags != -1 && ((flags & FD_CLOEXEC) == 0) != inherited && fcntl(fd, F_SETFD, flags ^ FD_CLOEXEC) != -1;
}

/* -1: it has none. What C's stdio has buffered is written first. */
static int descriptor_of(php_stream *stream)
{
	int fd = -1;

	if (!stream->ops->cast || stream->ops->cast(stream, PHP_STREAM_AS_FD, (void **) &fd) != SUCCESS) {
		return -1;
	}
	return fd;
}

static clk_stream known_as(php_stream *stream, int fd)
{
	return (clk_stream){(uintptr_t) stream, fd};
}

/* What was read ahead is older than the lock. The position stays. */
static void forget_read_ahead(php_stream *stream)
{
	zend_off_t position;

	if (stream->writepos == stream->readpos || (stream->flags & PHP_STREAM_FLAG_NO_SEEK) || stream->readfilters.head
		|| stream->stdiocast || !stream->ops->seek) {
		return;
	}
	if (stream->ops->seek(stream, stream->position, SEEK_SET, &position) == 0) {
		stream->readpos = stream->writepos = 0;
	}
}

/* The PHP function that locks; NULL: PHP itself. */
static const zend_string *caller(void)
{
	const zend_execute_data *call = EG(current_execute_data);

	return call && call->func ? call->func->common.function_name : NULL;
}

static bool called_by_flock(void)
{
	const zend_string *name = caller();

	return name && (zend_string_equals_literal(name, "flock") || zend_string_equals_literal(name, "cluster_flock"));
}

/* The stream that file_put_contents() has looked up and is going to read from: it does not expect code of the user to run
 * between the two. */
static zend_resource *source_of_caller(void)
{
	zend_execute_data *call = EG(current_execute_data);
	const zend_string *name = caller();

	if (!name || !zend_string_equals_literal(name, "file_put_contents") || ZEND_USER_CODE(call->func->type)
		|| ZEND_CALL_NUM_ARGS(call) < 2 || Z_TYPE_P(ZEND_CALL_ARG(call, 2)) != IS_RESOURCE) {
		return NULL;
	}
	return Z_RES_P(ZEND_CALL_ARG(call, 2));
}

/* The answer of an operation: 0, or -1 and errno, which has to be set last. */
static int answer(const clk_reply *reply)
{
	int code = reply->value == CLK_INT ? (int) reply->integer : 0;

	clk_tell(reply);
	if (EG(exception) && code == EWOULDBLOCK) {
		code = EINTR;
	}
	errno = code;
	return code == 0 ? 0 : -1;
}

/* Takes a lock that is ours to take. The interrupt of a wait runs user code, which may close the
 * stream. */
static int take(php_stream *stream, int fd, uint64_t id)
{
	zend_resource *resource = stream->res, *source = source_of_caller();
	clk_reply reply;
	uint64_t resume = 0;
	bool open = true;
	/* Whoever locks by other means than flock() goes on using the stream. */
	uint32_t guard = called_by_flock() ? 0 : PHP_STREAM_FLAG_NO_FCLOSE & ~stream->flags;

	if (resource) {
		GC_ADDREF(resource);
	}
	stream->flags |= guard;
	if (clk_before_wait()) {
		do {
			open = !resource || resource->ptr == stream;
			if (!open) {
				clk_give_up(id);
				reply = (clk_reply){.value = CLK_INT, .integer = EBADF};
				break;
			}
			clk_flock_take(id, known_as(stream, fd), &reply);
			resume = clk_go_on_waiting(&reply);
		} while (resume != 0);
	} else {
		clk_give_up(id);
		reply = (clk_reply){.value = CLK_FALSE};
	}
	if (reply.value == CLK_FALSE) {
		/* A handler threw. */
		reply = (clk_reply){.value = CLK_INT, .integer = EINTR};
	}
	if (reply.value == CLK_TRUE && open) {
		forget_read_ahead(stream);
		php_clear_stat_cache(0, NULL, 0);
	}
	int outcome = answer(&reply);
	int code = errno;
	if (outcome == 0 && source && !clk_is_open(source)) {
		clk_warn_closed_source();
		outcome = -1;
		code = EBADF;
	}
	open = !resource || resource->ptr == stream;
	if (open && reply.value == CLK_TRUE && (outcome != 0 || EG(exception))) {
		/* An error handler threw at the warning: the caller never learns of this lock. */
		clk_flock_release(known_as(stream, fd), &reply);
		code = outcome == 0 ? EINTR : code;
		outcome = -1;
	}
	if (open) {
		stream->flags &= ~guard;
	}
	if (resource) {
		zend_list_delete(resource);
	}
	errno = code;
	return outcome;
}

static int on_lock(php_stream *stream, int operation, bool by_name)
{
	clk_reply reply;
	int fd = descriptor_of(stream);

	if (fd == -1) {
		return next_set_option(stream, PHP_STREAM_OPTION_LOCKING, operation, NULL);
	}
	if (operation & LOCK_UN) {
		if (!clk_flock_any()) {
			return next_set_option(stream, PHP_STREAM_OPTION_LOCKING, operation, NULL);
		}
		clk_flock_release(known_as(stream, fd), &reply);
	} else {
		clk_flock_wish wish = {
			.exclusive = (operation & LOCK_EX) != 0,
			.at_once = (operation & LOCK_NB) != 0,
			.by_name = by_name,
			.loud = !called_by_flock(),
		};
		const char *typed = stream->orig_path ? stream->orig_path : "";
		clk_flock_begin(known_as(stream, fd), clk_bytes_of(typed, strlen(typed)), wish, &reply);
		if (reply.value == CLK_TRUE) {
			return take(stream, fd, reply.id);
		}
	}
	if (reply.value == CLK_NULL && reply.trouble == CLK_FINE) {
		return next_set_option(stream, PHP_STREAM_OPTION_LOCKING, operation, NULL);
	}
	return answer(&reply);
}

static int on_set_option(php_stream *stream, int option, int value, void *parameter)
{
	if (option == PHP_STREAM_OPTION_LOCKING && (uintptr_t) parameter != PHP_STREAM_LOCK_SUPPORTED) {
		bool by_name = locking_by_name == stream;
		locking_by_name = NULL;
		if (by_name || clk_flock_watching()) {
			return on_lock(stream, value, by_name);
		}
	}
	return next_set_option(stream, option, value, parameter);
}

/* Another stream of this request on the same open file: the lock goes on until that is closed. */
static void hand_on(php_stream *stream, int fd)
{
	zval *item;

	ZEND_HASH_FOREACH_VAL(&EG(regular_list), item) {
		zend_resource *resource = Z_RES_P(item);
		php_stream *other = resource->ptr;
		if (!other || other == stream || resource->type != php_file_le_stream()
			|| !php_stream_is(other, PHP_STREAM_IS_STDIO)) {
			continue;
		}
		int other_fd = descriptor_of(other);
		if (other_fd != -1 && clk_shim_same_open_file(fd, other_fd)) {
			clk_flock_share(known_as(stream, fd), known_as(other, other_fd));
		}
	} ZEND_HASH_FOREACH_END();
}

/* What a stream can do whose file is closed, and whose memory is not free yet. */
static ssize_t closed_write(php_stream *stream, const char *data, size_t count)
{
	return -1;
}

static ssize_t closed_read(php_stream *stream, char *buffer, size_t count)
{
	stream->eof = 1;
	return -1;
}

static int closed_close(php_stream *stream, int close_handle)
{
	return 0;
}

static int closed_flush(php_stream *stream)
{
	return -1;
}

static const php_stream_ops closed_ops = {
	.write = closed_write, .read = closed_read, .close = closed_close, .flush = closed_flush, .label = "closed",
};

static int on_close(php_stream *stream, int close_handle)
{
	clk_reply reply;
	int fd;

	if (!clk_shim_is_table_used() || !clk_flock_holds((uintptr_t) stream) || (fd = descriptor_of(stream)) == -1) {
		return next_close(stream, close_handle);
	}
	clk_stream name = known_as(stream, fd);
	hand_on(stream, fd);
	if (close_handle) {
		clk_flock_closing(name);
	}
	int outcome = next_close(stream, close_handle);
	int code = errno;
	clk_flock_closed(name, &reply);
	/* A handler of the warning may still know it: an SplFileObject, which has no resource that PHP would have closed. */
	stream->ops = &closed_ops;
	stream->abstract = NULL;
	clk_tell(&reply);
	errno = code;
	return outcome;
}

void clk_hook_streams(void)
{
	next_set_option = php_stream_stdio_ops.set_option;
	next_close = php_stream_stdio_ops.close;
	php_stream_stdio_ops.set_option = on_set_option;
	php_stream_stdio_ops.close = on_close;
}

/* Somebody who came after us, and has our operations behind his, keeps them. */
void clk_unhook_streams(void)
{
	if (php_stream_stdio_ops.set_option == on_set_option) {
		php_stream_stdio_ops.set_option = next_set_option;
	}
	if (php_stream_stdio_ops.close == on_close) {
		php_stream_stdio_ops.close = next_close;
	}
}

bool clk_shim_hooked(void)
{
	return next_set_option != NULL;
}

ZEND_FUNCTION(cluster_flock)
{
	zval *would_block = NULL;
	zend_long operation;
	php_stream *stream;

#ifdef PHP_Z_PARAM_STREAM /* PHP 8.5 and later; flock() says there which argument is not an open stream */
	ZEND_PARSE_PARAMETERS_START(2, 3)
		PHP_Z_PARAM_STREAM(stream)
		Z_PARAM_LONG(operation)
		Z_PARAM_OPTIONAL
		Z_PARAM_ZVAL(would_block)
	ZEND_PARSE_PARAMETERS_END();
#else
	zval *resource;

	ZEND_PARSE_PARAMETERS_START(2, 3)
		Z_PARAM_RESOURCE(resource)
		Z_PARAM_LONG(operation)
		Z_PARAM_OPTIONAL
		Z_PARAM_ZVAL(would_block)
	ZEND_PARSE_PARAMETERS_END();
	php_stream_from_zval(stream, resource);
#endif
	locking_by_name = php_stream_is(stream, PHP_STREAM_IS_STDIO) ? stream : NULL;
	php_flock_common(stream, operation, 2, would_block, return_value);
	locking_by_name = NULL;
}

ZEND_FUNCTION(cluster_clearstatcache)
{
	char *filename;
	size_t filename_len;

	ZEND_PARSE_PARAMETERS_START(1, 1)
		Z_PARAM_PATH(filename, filename_len)
	ZEND_PARSE_PARAMETERS_END();

	php_clear_stat_cache(1, filename, filename_len);
	/* Those of other wrappers have no cache but PHP's. */
	zend_string *path = filename_len ? clk_local_path(filename, false, NULL) : NULL;
	if (path) {
		php_clear_stat_cache(1, ZSTR_VAL(path), ZSTR_LEN(path));
		if (!php_check_open_basedir(ZSTR_VAL(path))) {
			clk_refresh_path(clk_bytes_of_str(path));
		}
		zend_string_release(path);
	}
}
