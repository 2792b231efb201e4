/* The functions on names. Arguments are taken exactly as PHP's own functions take theirs. */
#include "zend_glue.h"

#include "ext/standard/flock_compat.h"
#include "zend_exceptions.h"
#include "zend_generators.h"

#include <syslog.h>

ZEND_FUNCTION(cluster_lock)
{
	zend_string *name;
	double timeout = 0, ttl = 0;
	bool no_timeout = true, no_ttl = true;
	zend_long mode = PHP_LOCK_EX;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(1, 4)
		Z_PARAM_STR(name)
		Z_PARAM_OPTIONAL
		Z_PARAM_DOUBLE_OR_NULL(timeout, no_timeout)
		Z_PARAM_LONG(mode)
		Z_PARAM_DOUBLE_OR_NULL(ttl, no_ttl)
	ZEND_PARSE_PARAMETERS_END();

	if (!clk_before_wait()) {
		return;
	}
	uint64_t resume = 0;
	do {
		clk_lock(clk_bytes_of_str(name), clk_seconds_of(timeout, no_timeout), mode, clk_seconds_of(ttl, no_ttl),
			resume, &reply);
	} while ((resume = clk_go_on_waiting(&reply)) != 0);
	bool held = reply.value == CLK_TRUE;
	clk_answer(&reply, return_value);
	if (held && EG(exception)) {
		/* An error handler threw at the warning of an earlier loss: the caller never learns of
		 * this hold. */
		clk_unlock(clk_bytes_of_str(name), &reply);
	}
}

ZEND_FUNCTION(cluster_unlock)
{
	zend_string *name;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(1, 1)
		Z_PARAM_STR(name)
	ZEND_PARSE_PARAMETERS_END();

	clk_unlock(clk_bytes_of_str(name), &reply);
	clk_answer(&reply, return_value);
}

static bool is_exit(const zend_object *exception)
{
	return zend_is_unwind_exit(exception) || zend_is_graceful_exit(exception);
}

void clk_tell_beside(const clk_reply *reply)
{
	zend_string *message = clk_copy_of(reply->message);

	if (!message) {
		return;
	}
	/* Kept here as PHP's destructors keep it: what zend_exception_save() has saved is lost with the first exception that the
	 * handler throws, though it catches that itself. */
	zend_object *exception = EG(exception);
	const zend_op *before = EG(opline_before_exception);
	EG(exception) = NULL;
	php_error_docref(NULL, E_WARNING, "%s", ZSTR_VAL(message));
	zend_object *thrown = EG(exception);
	EG(exception) = exception;
	EG(opline_before_exception) = before;

	if (thrown && is_exit(exception)) {
		if (!is_exit(thrown)) {
			clk_log(message, LOG_WARNING);
		}
		OBJ_RELEASE(thrown);
	} else if (thrown) {
		EG(exception) = thrown;
		if (is_exit(thrown)) {
			OBJ_RELEASE(exception);
		} else {
			zend_exception_set_previous(thrown, exception);
		}
	} else if (!is_exit(exception)) {
		zval loss, text;
		object_init_ex(&loss, reply->trouble == CLK_THROW_LOST ? clk_lost_ce : clk_exception_ce);
		ZVAL_STR(&text, message);
		zend_update_property_ex(zend_ce_exception, Z_OBJ(loss), ZSTR_KNOWN(ZEND_STR_MESSAGE), &text);
		zend_exception_set_previous(exception, Z_OBJ(loss));
	}
	zend_string_release(message);
}

ZEND_FUNCTION(cluster_synchronized)
{
	zend_string *name;
	zend_fcall_info fci;
	zend_fcall_info_cache fcc;
	double timeout = 0, ttl = 0;
	bool no_timeout = true, no_ttl = true;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(2, 4)
		Z_PARAM_STR(name)
		Z_PARAM_FUNC(fci, fcc)
		Z_PARAM_OPTIONAL
		Z_PARAM_DOUBLE_OR_NULL(timeout, no_timeout)
		Z_PARAM_DOUBLE_OR_NULL(ttl, no_ttl)
	ZEND_PARSE_PARAMETERS_END();

	/* The callable's array may have it by reference, and code of the user that runs during the wait be its last. */
	zend_object *object = fcc.object;
	if (object) {
		GC_ADDREF(object);
	}
	if (!clk_before_wait()) {
		goto uncalled;
	}
	uint64_t resume = 0;
	do {
		clk_enter(clk_bytes_of_str(name), clk_seconds_of(timeout, no_timeout), clk_seconds_of(ttl, no_ttl), resume,
			&reply);
	} while ((resume = clk_go_on_waiting(&reply)) != 0);
	uint64_t id = reply.id;
	bool held = reply.value == CLK_TRUE;
	clk_tell(&reply);
	/* Held with a warning, and the error handler threw: not called, but to be given back. */
	if (!held || EG(exception)) {
		if (held) {
			clk_leave(clk_bytes_of_str(name), id, &reply);
		}
		goto uncalled;
	}

	/* When this does not come back (a fatal error), the end of the request releases. */
	fci.retval = return_value;
	zend_call_function(&fci, &fcc);
	bool threw = EG(exception) != NULL;
	if (Z_ISREF_P(return_value)) {
		zend_unwrap_reference(return_value);
	}
	clk_leave(clk_bytes_of_str(name), id, &reply);
	if (reply.trouble != CLK_FINE && threw) {
		clk_tell_beside(&reply);
	} else {
		clk_tell(&reply);
		if (EG(exception) && EG(exception)->ce == clk_lost_ce) {
			zend_update_property(clk_lost_ce, EG(exception), ZEND_STRL("result"), return_value);
		}
	}
	if (object) {
		OBJ_RELEASE(object);
	}
	return;

uncalled:
	zend_release_fcall_info_cache(&fcc);
	if (object) {
		OBJ_RELEASE(object);
	}
}

ZEND_FUNCTION(cluster_coalesced)
{
	zend_string *name;
	zend_fcall_info fci;
	zend_fcall_info_cache fcc;
	double timeout = 0, ttl = 0;
	bool no_timeout = true, no_ttl = true;
	clk_reply reply;
	zval result;

	ZEND_PARSE_PARAMETERS_START(2, 4)
		Z_PARAM_STR(name)
		Z_PARAM_FUNC(fci, fcc)
		Z_PARAM_OPTIONAL
		Z_PARAM_DOUBLE_OR_NULL(timeout, no_timeout)
		Z_PARAM_DOUBLE_OR_NULL(ttl, no_ttl)
	ZEND_PARSE_PARAMETERS_END();

	/* As in cluster_synchronized(). */
	zend_object *object = fcc.object;
	if (object) {
		GC_ADDREF(object);
	}
	RETVAL_FALSE;
	if (!clk_before_wait()) {
		goto uncalled;
	}
	uint64_t resume = 0;
	do {
		clk_run_begin(clk_bytes_of_str(name), clk_seconds_of(timeout, no_timeout), clk_seconds_of(ttl, no_ttl), resume,
			&reply);
	} while ((resume = clk_go_on_waiting(&reply)) != 0);
	uint64_t id = reply.value == CLK_TRUE ? reply.id : 0;
	clk_answer(&reply, return_value);
	if (id == 0 || EG(exception)) {
		if (id != 0) {
			clk_run_end(clk_bytes_of_str(name), id, false, false, &reply);
		}
		goto uncalled;
	}

	/* When this does not come back (a fatal error), the end of the request releases, and the run counts for nobody. */
	ZVAL_UNDEF(&result);
	fci.retval = &result;
	zend_call_function(&fci, &fcc);
	bool threw = EG(exception) != NULL;
	ZVAL_DEREF(fci.retval);
	/* To call a generator function runs none of it. */
	bool forgotten = !threw && Z_TYPE_P(fci.retval) == IS_OBJECT && Z_OBJCE_P(fci.retval) == zend_ce_generator;
	bool complete = !threw && !forgotten && !Z_ISUNDEF_P(fci.retval) && Z_TYPE_P(fci.retval) != IS_FALSE;
	clk_run_end(clk_bytes_of_str(name), id, complete, forgotten, &reply);
	if (threw) {
		if (reply.trouble != CLK_FINE) {
			clk_tell_beside(&reply);
		}
	} else {
		clk_answer(&reply, return_value);
	}
	zval_ptr_dtor(&result);
	if (object) {
		OBJ_RELEASE(object);
	}
	return;

uncalled:
	zend_release_fcall_info_cache(&fcc);
	if (object) {
		OBJ_RELEASE(object);
	}
}

ZEND_FUNCTION(cluster_lock_fence)
{
	zend_string *name;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(1, 1)
		Z_PARAM_STR(name)
	ZEND_PARSE_PARAMETERS_END();

	clk_fence(clk_bytes_of_str(name), &reply);
	clk_answer(&reply, return_value);
}

ZEND_FUNCTION(cluster_lock_info)
{
	zend_string *name;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(1, 1)
		Z_PARAM_STR(name)
	ZEND_PARSE_PARAMETERS_END();

	clk_info(clk_bytes_of_str(name), return_value, &reply);
	clk_answer(&reply, return_value);
}

ZEND_FUNCTION(cluster_lock_list)
{
	zend_string *prefix = NULL;
	zend_long limit = 1000;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(0, 2)
		Z_PARAM_OPTIONAL
		Z_PARAM_STR(prefix)
		Z_PARAM_LONG(limit)
	ZEND_PARSE_PARAMETERS_END();

	clk_list(clk_bytes_of_str(prefix), limit, return_value, &reply);
	clk_answer(&reply, return_value);
}

ZEND_FUNCTION(cluster_lock_break)
{
	zend_string *name;
	zend_long fence = 0;
	bool any_holder = true;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(1, 2)
		Z_PARAM_STR(name)
		Z_PARAM_OPTIONAL
		Z_PARAM_LONG_OR_NULL(fence, any_holder)
	ZEND_PARSE_PARAMETERS_END();

	clk_break(clk_bytes_of_str(name), fence, any_holder, &reply);
	clk_answer(&reply, return_value);
}

ZEND_FUNCTION(cluster_lock_servers)
{
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_NONE();

	clk_servers(return_value, &reply);
	clk_answer(&reply, return_value);
}

ZEND_FUNCTION(cluster_lock_status)
{
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_NONE();

	clk_status(return_value, &reply);
	clk_answer(&reply, return_value);
}

ZEND_METHOD(ClusterLockLostException, getResult)
{
	zval unset, *result;

	ZEND_PARSE_PARAMETERS_NONE();

	result = zend_read_property(clk_lost_ce, Z_OBJ_P(ZEND_THIS), ZEND_STRL("result"), true, &unset);
	RETURN_COPY_DEREF(result);
}
