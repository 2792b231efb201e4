/*
 * The border between PHP (zend_shim.c) and Rust: ffi.rs mirrors what is called of Rust, php.rs what Rust calls.
 *
 * The rule that keeps locks safe: PHP may longjmp out of any of its own functions (a fatal error in
 * a user's error handler, the memory limit), and a longjmp runs no Rust destructor. So Rust never
 * calls PHP while it holds anything; it returns a clk_reply, and the shim raises the warning or
 * throws the exception afterwards. What has to outlive the call (leases, half-written files) stands
 * in the request's table on the Rust side, addressed by id, and is cleared at the end of the request.
 */
#ifndef CLUSTER_LOCK_ZEND_SHIM_H
#define CLUSTER_LOCK_ZEND_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "php.h"

/* Bytes that belong to somebody else. `ptr` is NULL for "none". */
typedef struct {
	const uint8_t *ptr;
	size_t len;
} clk_bytes;

/* A ?float argument. */
typedef struct {
	double value;
	bool given;
} clk_seconds;

enum {
	CLK_NULL = 0,
	CLK_FALSE = 1,
	CLK_TRUE = 2,
	CLK_INT = 3,
	CLK_FLOAT = 4,
	CLK_ARRAY = 5, /* stands in the zval that was passed */
	CLK_AGAIN = 6, /* interrupted: see clk_go_on_waiting() */
	CLK_BAILOUT = 7, /* PHP ends the script: zend_bailout() */
};

enum {
	CLK_FINE = 0,
	CLK_WARNING = 1,
	CLK_BAD_ARGUMENT = 2,
	CLK_THROW_LOCK = 3,
	CLK_THROW_TIMEOUT = 4,
	CLK_THROW_LOST = 5,
	CLK_THROW_CONNECTION = 6,
	CLK_THROW_ERROR = 7,
};

/* Who sets an ini entry. */
enum {
	CLK_BY_CODE = 0,
	CLK_BY_REQUEST = 1,
	CLK_BY_START = 2,
	CLK_BY_POOL = 3,
};

/* A setting, as Rust's table has it. The bytes stay. */
typedef struct {
	clk_bytes name;
	clk_bytes value; /* by default */
	bool anywhere;   /* it may also be set by ini_set() and .user.ini */
	bool is_switch;  /* on or off */
} clk_ini_entry;

/* The answer of every call. The bytes are Rust's, and valid until the next call in this thread. */
typedef struct {
	uint32_t value;
	uint32_t trouble;
	uint32_t argument; /* which one, for CLK_BAD_ARGUMENT */
	int64_t integer;
	double real;
	uint64_t id; /* of what was put into the request's table */
	clk_bytes message;
	clk_bytes log;  /* a line for PHP's error log */
	clk_bytes path; /* the resolved target of a write */
} clk_reply;

/* Rust, called by the shim. */
void clk_process_begin(void);
void clk_process_end(void);
void clk_request_end(void);
bool clk_owed(clk_reply *reply);
void clk_request_gone(void);
void clk_request_settings_gone(void);
void clk_fiber_ended(uintptr_t fiber);
bool clk_identity_known(void);
void clk_identity(clk_bytes sapi, clk_bytes script, clk_bytes uri);
bool clk_call_begin(void);
bool clk_call_frame(clk_bytes class_name, clk_bytes function, clk_bytes file, uint32_t line);
size_t clk_ini_entries(void);
bool clk_ini_entry_at(size_t index, clk_ini_entry *entry);
void clk_setting(clk_bytes name, clk_bytes value, uint32_t by, clk_reply *reply);
clk_bytes clk_unheard(void);
clk_bytes clk_dsn_shown(void);
clk_bytes clk_hide_dsn(clk_bytes dsn);

/* Those that may wait take `resume`: 0, or the id of the CLK_AGAIN reply after which they go on. */
void clk_lock(clk_bytes name, clk_seconds timeout, int64_t mode, clk_seconds ttl, uint64_t resume, clk_reply *reply);
void clk_give_up(uint64_t wait);
void clk_unlock(clk_bytes name, clk_reply *reply);
void clk_enter(clk_bytes name, clk_seconds timeout, clk_seconds ttl, uint64_t resume, clk_reply *reply);
void clk_leave(clk_bytes name, uint64_t id, clk_reply *reply);
/* CLK_TRUE with an id: the work is to be done, and clk_run_end() says how it ended; without: it has been done. */
void clk_run_begin(clk_bytes name, clk_seconds timeout, clk_seconds ttl, uint64_t resume, clk_reply *reply);
/* Not complete, it has failed, or was forgotten to be done. */
void clk_run_end(clk_bytes name, uint64_t id, bool complete, bool forgotten, clk_reply *reply);
void clk_fence(clk_bytes name, clk_reply *reply);
void clk_info(clk_bytes name, zval *array, clk_reply *reply);
void clk_list(clk_bytes prefix, int64_t limit, zval *array, clk_reply *reply);
void clk_break(clk_bytes name, int64_t fence, bool any_holder, clk_reply *reply);
void clk_servers(zval *array, clk_reply *reply);
void clk_status(zval *array, clk_reply *reply);

void clk_write_begin(clk_bytes path, clk_bytes lock, clk_reply *reply);
void clk_write_open(uint64_t id, bool append, bool exclusive, uint64_t resume, clk_reply *reply);
void clk_write_push(uint64_t id, clk_bytes data, clk_reply *reply);
void clk_write_commit(uint64_t id, clk_reply *reply);
void clk_write_abort(uint64_t id);

/* A build is a write that begins with clk_build_find(); clk_write_abort() gives it up, too. */
void clk_build_find(clk_bytes path, clk_seconds timeout, clk_reply *reply);
void clk_build_source(uint64_t id, clk_bytes path);
/* CLK_TRUE with an id: it is to be built, and clk_build_end() takes what that has returned; without: it is up to date, and
 * new to this process if there is a path. */
void clk_build_begin(uint64_t id, uint64_t resume, clk_reply *reply);
/* No content: nothing is written. `returned`: the type of what should have been a string, if that is to be told. */
void clk_build_end(uint64_t id, clk_bytes content, clk_bytes returned, clk_reply *reply);

/* An open plain stream: its address, which only names it, and its descriptor. */
typedef struct {
	uintptr_t address;
	int fd;
} clk_stream;

typedef struct {
	bool exclusive;
	bool at_once;
	bool by_name; /* by cluster_flock(), whatever the file */
	bool loud;    /* a time-out is a warning: the caller could not tell it from other failures */
} clk_flock_wish;

/* Locks on open files. CLK_NULL: not ours, the kernel's alone. CLK_INT: the errno of a failure. */
bool clk_flock_watching(void);
bool clk_flock_any(void);
bool clk_flock_holds(uintptr_t address);
void clk_flock_begin(clk_stream stream, clk_bytes typed, clk_flock_wish wish, clk_reply *reply);
void clk_flock_take(uint64_t id, clk_stream stream, clk_reply *reply);
void clk_flock_release(clk_stream stream, clk_reply *reply);
void clk_flock_share(clk_stream with, clk_stream stream);
void clk_flock_closing(clk_stream stream);
void clk_flock_closed(clk_stream stream, clk_reply *reply);
void clk_refresh_path(clk_bytes path);

void clk_object_new(clk_bytes name, int64_t mode, clk_seconds ttl, clk_reply *reply);
void clk_object_acquire(uint64_t id, clk_seconds timeout, uint64_t resume, clk_reply *reply);
void clk_object_release(uint64_t id, clk_reply *reply);
void clk_object_refresh(uint64_t id, clk_seconds ttl, clk_reply *reply);
void clk_object_is_held(uint64_t id, clk_reply *reply);
void clk_object_remaining(uint64_t id, clk_reply *reply);
void clk_object_fence(uint64_t id, clk_reply *reply);
void clk_object_destruct(uint64_t id, clk_reply *reply);
void clk_object_free(uint64_t id);

/* The shim, called by PHP through ext-php-rs's module entry. */
int clk_shim_minit(int type, int module_number);
int clk_shim_mshutdown(int type, int module_number);
int clk_shim_rinit(int type, int module_number);
int clk_shim_rshutdown(int type, int module_number);
int clk_shim_post_deactivate(void);
void clk_shim_minfo(zend_module_entry *module);

/* The shim, called by Rust; none of these can longjmp. */
bool clk_shim_interrupted(void);
bool clk_shim_is_out_of_memory(void);
/* Holds off the signals at which the process would end in the middle of Rust's code; false: that need not be, or is so
 * already. Then they are let in, also those that have come meanwhile: that may not return. */
bool clk_shim_hold_signals(void);
void clk_shim_let_signals(void);
bool clk_shim_is_table_used(void);
void clk_shim_set_table_used(bool used);
uintptr_t clk_shim_fiber(void);
bool clk_shim_in_coroutine(void);
bool clk_shim_hooked(void);
bool clk_shim_same_open_file(int one, int other);
bool clk_shim_set_inherited(int fd, bool inherited);

#endif
