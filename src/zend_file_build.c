/*
 * cluster_file_build(): the paths, and the call of the user's code. What is under way meanwhile is Rust's, by a number; nothing
 * here outlives that call but what this function owns.
 */
#include "zend_glue.h"

#include "ext/standard/php_filestat.h"
#include "fopen_wrappers.h"

/* A path of a plain local file that open_basedir allows; NULL, and a warning or an exception. */
static zend_string *allowed_path(const char *filename, const char *warning)
{
	zend_string *path = clk_local_path(filename, false, warning);

	if (path && php_check_open_basedir(ZSTR_VAL(path))) {
		zend_string_release(path);
		return NULL;
	}
	return path;
}

/* Before anything is held: the conversion of an object runs code of the user. */
static bool add_source(uint64_t id, zval *source)
{
	ZVAL_DEREF(source);
	if (Z_TYPE_P(source) != IS_STRING && Z_TYPE_P(source) != IS_OBJECT) {
		zend_argument_type_error(3, "must contain only paths, %s given", zend_zval_type_name(source));
		return false;
	}
	zend_string *text = zval_try_get_string(source);
	if (!text) {
		return false;
	}
	zend_string *path = NULL;
	if (ZSTR_LEN(text) == 0) {
		zend_argument_value_error(3, "must not contain an empty path");
	} else if (strlen(ZSTR_VAL(text)) != ZSTR_LEN(text)) {
		zend_argument_value_error(3, "must not contain any null bytes");
	} else if (!EG(exception)) {
		path = allowed_path(ZSTR_VAL(text), "Only plain local files can be sources, not those of a stream wrapper");
	}
	if (path) {
		clk_build_source(id, clk_bytes_of_str(path));
		zend_string_release(path);
	}
	zend_string_release(text);
	return path != NULL && !EG(exception);
}

static bool add_sources(uint64_t id, HashTable *sources)
{
	zval *source;

	if (sources) {
		ZEND_HASH_FOREACH_VAL(sources, source) {
			if (!add_source(id, source)) {
				return false;
			}
		} ZEND_HASH_FOREACH_END();
	}
	return true;
}

/* Waits for the run, or for another one's; true: the user's code is to be called. */
static bool begin(uint64_t id, zend_string *path, zend_string *target, zval *return_value)
{
	clk_reply reply;
	uint64_t resume = 0;

	do {
		clk_build_begin(id, resume, &reply);
	} while ((resume = clk_go_on_waiting(&reply)) != 0);
	bool build = reply.value == CLK_TRUE && reply.id != 0;
	bool is_new = reply.path.ptr != NULL;
	clk_answer(&reply, return_value);
	if (is_new) {
		clk_forget_file(path, target);
	}
	/* What PHP remembers of a file may be of one that another node has replaced; and of links, for minutes, where they led
	 * before they were turned, so that the build would open the old sources. */
	php_clear_stat_cache(build, NULL, 0);
	return build && !EG(exception);
}

/* As get_debug_type() has it, which for an object some versions of PHP do not. */
static const char *type_of(const zval *value)
{
	return Z_TYPE_P(value) == IS_OBJECT ? ZSTR_VAL(Z_OBJCE_P(value)->name) : zend_zval_type_name(value);
}

/* When the call does not come back (a fatal error), the end of the request takes the temporary file away and releases, and the
 * run counts for nobody. */
static void build(uint64_t id, zend_fcall_info *fci, zend_fcall_info_cache *fcc, zend_string *path, zend_string *target,
	zval *return_value)
{
	clk_reply reply;
	zval result;

	ZVAL_UNDEF(&result);
	fci->retval = &result;
	zend_call_function(fci, fcc);
	bool threw = EG(exception) != NULL;
	zval *value = &result;
	ZVAL_DEREF(value);
	bool made = !threw && Z_TYPE_P(value) == IS_STRING;
	bool wrong = !threw && !made && Z_TYPE_P(value) != IS_FALSE && !Z_ISUNDEF_P(value);
	const char *type = wrong ? type_of(value) : NULL;

	clk_build_end(id, clk_bytes_of_str(made ? Z_STR_P(value) : NULL), clk_bytes_of(type, type ? strlen(type) : 0), &reply);
	if (threw) {
		if (reply.trouble != CLK_FINE) {
			clk_tell_beside(&reply);
		}
	} else {
		/* The warning comes last: its handler shall find everything done. */
		zend_string *message = clk_copy_of(reply.message);
		ZVAL_BOOL(return_value, reply.value == CLK_TRUE);
		if (made) {
			clk_forget_file(path, target);
		}
		clk_raise(&reply, message);
		if (message) {
			zend_string_release(message);
		}
	}
	zval_ptr_dtor(&result);
}

ZEND_FUNCTION(cluster_file_build)
{
	char *filename;
	size_t filename_len;
	zend_fcall_info fci;
	zend_fcall_info_cache fcc;
	HashTable *sources = NULL;
	double timeout = 0;
	bool no_timeout = true, called = false;
	zend_string *path = NULL, *target = NULL;
	uint64_t id = 0;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(2, 4)
		Z_PARAM_PATH(filename, filename_len)
		Z_PARAM_FUNC(fci, fcc)
		Z_PARAM_OPTIONAL
		Z_PARAM_ARRAY_HT(sources)
		Z_PARAM_DOUBLE_OR_NULL(timeout, no_timeout)
	ZEND_PARSE_PARAMETERS_END();

	/* The callable's array may have it by reference, and code of the user that runs during the wait be its last. */
	zend_object *object = fcc.object;
	if (object) {
		GC_ADDREF(object);
	}
	RETVAL_FALSE;
	if (filename_len == 0) {
		zend_argument_value_error(1, "must not be empty");
		goto done;
	}
	path = allowed_path(filename, "Only plain local files can be built, not those of a stream wrapper");
	if (!path) {
		goto done;
	}
	clk_build_find(clk_bytes_of_str(path), clk_seconds_of(timeout, no_timeout), &reply);
	id = reply.id;
	target = clk_copy_of(reply.path);
	if (reply.value != CLK_TRUE) {
		clk_tell(&reply);
		goto done;
	}
	if (php_check_open_basedir(ZSTR_VAL(target)) || !add_sources(id, sources) || !clk_before_wait()) {
		goto done;
	}
	if (begin(id, path, target, return_value)) {
		called = true;
		build(id, &fci, &fcc, path, target, return_value);
	}

done:
	if (!called) {
		if (id != 0) {
			clk_write_abort(id);
		}
		zend_release_fcall_info_cache(&fcc);
	}
	if (target) {
		zend_string_release(target);
	}
	if (path) {
		zend_string_release(path);
	}
	if (object) {
		OBJ_RELEASE(object);
	}
}
