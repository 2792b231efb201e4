/* What the shim's C files share. The border to Rust is zend_shim.h. */
#ifndef CLUSTER_LOCK_ZEND_GLUE_H
#define CLUSTER_LOCK_ZEND_GLUE_H

#include "zend_shim.h"

/* zend_shim.c */

#ifdef ZTS
# define CLK_PER_THREAD _Thread_local
#else
# define CLK_PER_THREAD
#endif

extern zend_class_entry *clk_lock_ce;
extern zend_class_entry *clk_exception_ce;
extern zend_class_entry *clk_timeout_ce;
extern zend_class_entry *clk_lost_ce;
extern zend_class_entry *clk_connection_ce;

/* zend_reply.c */

/* A copy of Rust's bytes; NULL for none. */
zend_string *clk_copy_of(clk_bytes bytes);
/* The warning or the exception of a reply. */
void clk_raise(const clk_reply *reply, zend_string *message);
/* The log line, then the warning or exception. While the request ends a warning goes to the log alone. */
void clk_tell(const clk_reply *reply);
/* The value, then all that. */
void clk_answer(const clk_reply *reply, zval *return_value);
/* Before anything that may wait; false: an exception was thrown, or PHP is about to end the script. */
bool clk_before_wait(void);
/* After it, while it says CLK_AGAIN: handles the interrupt. The number with which to ask again; 0 to
 * stop, and then the reply is CLK_FALSE if that was for an exception or for PHP to end the script. */
uint64_t clk_go_on_waiting(clk_reply *reply);

/* At the start: whether signals have to be held off while Rust's code runs. */
void clk_prepare_signals(void);

/* A line for PHP's error log, if php.ini wants one (log_errors). */
void clk_log(const zend_string *line, int severity);

/* Whether the request's shutdown has come to us: code of the user that runs from now on finds a request that is half gone. */
bool clk_request_is_ending(void);

/* zend_functions.c */

/* A loss beside an exception of the callback, or its exit: the exception wins, and tells of it as well. An exit goes on even
 * if a handler of the warning throws; then the log is told. */
void clk_tell_beside(const clk_reply *reply);

/* zend_call.c */

/* Tells which code asks for a lock. */
void clk_tell_call(void);

/* zend_file_write.c */

/* Whether a stream is still open, by its resource, which outlives it. */
bool clk_is_open(const zend_resource *resource);
/* Warns that the stream to read from is not. */
void clk_warn_closed_source(void);

/* The absolute path of a plain local file, or NULL (and a warning, if one is given). */
zend_string *clk_local_path(const char *filename, bool use_include_path, const char *warning);

/* PHP, and opcache if it is a script, shall look at the file anew. `path`: as the caller has it. */
void clk_forget_file(zend_string *path, zend_string *target);

/* zend_streams.c */

/* Puts our operations before those of PHP's plain streams, and takes them out again. */
void clk_hook_streams(void);
void clk_unhook_streams(void);

/* zend_lock_object.c */

/* Gives the class its handlers. */
void clk_prepare_lock_class(zend_class_entry *ce);

static inline clk_bytes clk_bytes_of(const char *ptr, size_t len)
{
	return (clk_bytes){(const uint8_t *) ptr, len};
}

static inline clk_bytes clk_bytes_of_str(const zend_string *str)
{
	return str ? clk_bytes_of(ZSTR_VAL(str), ZSTR_LEN(str)) : clk_bytes_of(NULL, 0);
}

static inline clk_seconds clk_seconds_of(double value, bool is_null)
{
	return (clk_seconds){value, !is_null};
}

#endif
