/*
 * Between the two languages: Rust's answers become values, log lines, warnings and exceptions; and
 * what has to happen before Rust may wait.
 */
#include "zend_glue.h"

#include "SAPI.h"
#include "zend_exceptions.h"
#include "zend_signal.h"

#include <syslog.h>

zend_string *clk_copy_of(clk_bytes bytes)
{
	return bytes.ptr ? zend_string_init((const char *) bytes.ptr, bytes.len, 0) : NULL;
}

void clk_log(const zend_string *line, int severity)
{
	if (PG(log_errors)) {
		php_log_err_with_severity(ZSTR_VAL(line), severity);
	}
}

void clk_raise(const clk_reply *reply, zend_string *message)
{
	const char *text = message ? ZSTR_VAL(message) : "";

	switch (reply->trouble) {
		case CLK_WARNING:
			/* A handler in PHP is not called while an exception is on its way, nor is anybody else told then. */
			if (message && EG(exception) && Z_TYPE(EG(user_error_handler)) != IS_UNDEF
				&& (EG(user_error_handler_error_reporting) & E_WARNING)) {
				clk_log(message, LOG_WARNING);
			} else {
				php_error_docref(NULL, E_WARNING, "%s", text);
			}
			break;
		case CLK_BAD_ARGUMENT:
			zend_argument_value_error(reply->argument, "%s", text);
			break;
		case CLK_THROW_LOCK:
			zend_throw_exception(clk_exception_ce, text, 0);
			break;
		case CLK_THROW_TIMEOUT:
			zend_throw_exception(clk_timeout_ce, text, 0);
			break;
		case CLK_THROW_LOST:
			zend_throw_exception(clk_lost_ce, text, 0);
			break;
		case CLK_THROW_CONNECTION:
			zend_throw_exception(clk_connection_ce, text, 0);
			break;
		case CLK_THROW_ERROR:
			zend_throw_error(NULL, "%s", text);
			break;
		default:
			break;
	}
}

/* All but the value. */
void clk_tell(const clk_reply *reply)
{
	/* Copied first: an error handler may call in again, and the reply's bytes are gone then. */
	zend_string *log = clk_copy_of(reply->log);
	zend_string *message = clk_copy_of(reply->message);

	if (log) {
		/* To the log only: a displayed notice would break a page's JSON. */
		clk_log(log, LOG_NOTICE);
		zend_string_release(log);
	}
	if (message && reply->trouble == CLK_WARNING && clk_request_is_ending()) {
		clk_log(message, LOG_WARNING);
	} else {
		clk_raise(reply, message);
	}
	if (message) {
		zend_string_release(message);
	}
}

/* The value, the log line, then the warning or exception. */
void clk_answer(const clk_reply *reply, zval *return_value)
{
	switch (reply->value) {
		case CLK_FALSE:
			ZVAL_FALSE(return_value);
			break;
		case CLK_TRUE:
			ZVAL_TRUE(return_value);
			break;
		case CLK_INT:
			ZVAL_LONG(return_value, (zend_long) reply->integer);
			break;
		case CLK_FLOAT:
			ZVAL_DOUBLE(return_value, reply->real);
			break;
		case CLK_ARRAY:
			break;
		case CLK_BAILOUT:
			/* Caught in an array that Rust was building; now nothing of Rust's is left behind. */
			zend_bailout();
			break;
		default:
			ZVAL_NULL(return_value);
			break;
	}
	clk_tell(reply);
}

/*
 * Apache ends a child in its handler of SIGTERM or SIGHUP: PHP's module shutdown, then exit(). In the middle of Rust's code that
 * would go on with a heap and tables that are half changed. So PHP keeps signals back until it has returned, as it does for
 * opcache. Not elsewhere: what a handler of pcntl's is told of a signal that was kept back (siginfo_t) is gone.
 */
static bool dies_in_handlers;
static CLK_PER_THREAD bool signals_held;

void clk_prepare_signals(void)
{
	dies_in_handlers = sapi_module.name && strcmp(sapi_module.name, "apache2handler") == 0;
}

bool clk_shim_hold_signals(void)
{
	if (signals_held || !dies_in_handlers) {
		return false;
	}
	HANDLE_BLOCK_INTERRUPTIONS();
	signals_held = true;
	return true;
}

void clk_shim_let_signals(void)
{
	if (signals_held) {
		signals_held = false;
		HANDLE_UNBLOCK_INTERRUPTIONS();
	}
}

/* One has come meanwhile. */
static bool is_signal_due(void)
{
#ifdef ZEND_SIGNALS
	return signals_held && SIGG(blocked);
#else
	return false;
#endif
}

bool clk_shim_interrupted(void)
{
#if PHP_VERSION_ID >= 80200
	return zend_atomic_bool_load_ex(&EG(vm_interrupt)) || zend_atomic_bool_load_ex(&EG(timed_out)) || is_signal_due();
#else
	return EG(vm_interrupt) || EG(timed_out) || is_signal_due();
#endif
}

static clk_bytes bytes_of_c(const char *str)
{
	return str ? clk_bytes_of(str, strlen(str)) : clk_bytes_of("", 0);
}

#ifdef ZEND_HAS_OOM
/* A PHP that is older than its headers has neither this nor what the macro looks at. */
# pragma weak zend_handle_delayed_oom
#endif

/* Over its memory limit a script goes on until PHP ends it between two instructions, which none is within our functions. (PHP
 * of 2026; before, it ended in the middle of them.) */
bool clk_shim_is_out_of_memory(void)
{
#ifdef ZEND_HAS_OOM
	return zend_handle_delayed_oom != NULL && ZEND_HAS_OOM();
#else
	return false;
#endif
}

/* Does what PHP's VM does between two instructions: ends the request whose time is up, runs the
 * handlers of signals. False: one of them threw, or PHP is to do it when our function has returned. */
static bool handle_interrupt(void)
{
	if (clk_shim_is_out_of_memory()) {
		return false;
	}
#if PHP_VERSION_ID >= 80200
	zend_atomic_bool_store_ex(&EG(vm_interrupt), false);
	bool timed_out = zend_atomic_bool_load_ex(&EG(timed_out));
#else
	EG(vm_interrupt) = 0;
	bool timed_out = EG(timed_out);
#endif
	if (timed_out) {
		zend_timeout();
	} else if (zend_interrupt_function) {
		zend_interrupt_function(EG(current_execute_data));
	}
	return EG(exception) == NULL;
}

/* An interrupt alone ends no wait: profilers raise one every few milliseconds. A handler that wants
 * it to end throws. */
uint64_t clk_go_on_waiting(clk_reply *reply)
{
	uint64_t wait = reply->id;

	if (reply->value != CLK_AGAIN) {
		return 0;
	}
	if (handle_interrupt()) {
		/* What has run meanwhile may have asked for a lock, too. */
		clk_tell_call();
		return wait;
	}
	clk_give_up(wait);
	*reply = (clk_reply){.value = CLK_FALSE, .trouble = CLK_FINE};
	return 0;
}

/* The one that has called all others, where nobody says which: programs that embed PHP do not, and FrankenPHP has there what
   the path behind a script's name would be as a file. */
static clk_bytes script_of_request(void)
{
	const zend_string *outermost = NULL;

	if (SG(request_info).path_translated && strcmp(sapi_module.name, "frankenphp") != 0) {
		return bytes_of_c(SG(request_info).path_translated);
	}
	for (const zend_execute_data *frame = EG(current_execute_data); frame; frame = frame->prev_execute_data) {
		if (frame->func && ZEND_USER_CODE(frame->func->type) && frame->func->op_array.filename) {
			outermost = frame->func->op_array.filename;
		}
	}
	return outermost ? clk_bytes_of_str(outermost) : bytes_of_c(NULL);
}

/* Tells who asks: once per request, and for each lock by which code; and handles an interrupt that is pending already. */
bool clk_before_wait(void)
{
	if (clk_shim_interrupted() && !handle_interrupt()) {
		return false;
	}
	if (!clk_identity_known()) {
		/* fpm's request_info has the script here; the URI is in its environment only. */
		char *uri = sapi_getenv(ZEND_STRL("REQUEST_URI"));
		clk_identity(bytes_of_c(sapi_module.name), script_of_request(), bytes_of_c(uri ? uri : SG(request_info).request_uri));
		if (uri) {
			efree(uri);
		}
	}
	clk_tell_call();
	return true;
}
