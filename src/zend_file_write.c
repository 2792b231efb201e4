/*
 * cluster_file_put_contents(): the path and the data, as PHP's file_put_contents() takes them. The
 * replacement itself is Rust's.
 */
#include "zend_glue.h"

#include "SAPI.h"
#include "ext/standard/file.h"
#include "ext/standard/flock_compat.h"
#include "ext/standard/php_filestat.h"
#include "fopen_wrappers.h"
#include "php_streams.h"

#define CHUNK (64 * 1024)

/* As PHP's own plain files wrapper does it; symbolic links stay as they are. */
zend_string *clk_local_path(const char *filename, bool use_include_path, const char *warning)
{
	const char *path = filename;
	size_t scheme = strspn(filename, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
	bool is_url = scheme > 1 && strncmp(filename + scheme, "://", 3) == 0;
	bool is_file_url = is_url && scheme == 4 && strncasecmp(filename, "file", 4) == 0;

	/* A scheme that PHP does not know would be taken for the name of a directory (and one letter is). */
	if ((is_url && !is_file_url) || php_stream_locate_url_wrapper(filename, &path, 0) != &php_plain_files_wrapper) {
		if (warning) {
			php_error_docref(NULL, E_WARNING, "%s", warning);
		}
		return NULL;
	}
	/* The kernel would say so, too; but not before it was copied. */
	if (strlen(path) >= MAXPATHLEN) {
		if (warning) {
			php_error_docref(NULL, E_WARNING, "The path is too long: more than %d bytes", MAXPATHLEN - 1);
		}
		return NULL;
	}
	if (use_include_path) {
		zend_string *wanted = zend_string_init(path, strlen(path), 0);
		zend_string *found = zend_resolve_path(wanted);
		zend_string_release(wanted);
		if (found) {
			return found;
		}
		if (EG(exception)) {
			return NULL;
		}
	}
	if (IS_ABSOLUTE_PATH(path, strlen(path))) {
		return zend_string_init(path, strlen(path), 0);
	}
	/* Of this thread, which with ZTS need not be that of the process. */
	char cwd[MAXPATHLEN];
	if (!VCWD_GETCWD(cwd, sizeof(cwd))) {
		php_error_docref(NULL, E_WARNING, "The working directory cannot be found: %s", strerror(errno));
		return NULL;
	}
	return strpprintf(0, "%s/%s", cwd, path);
}

static bool push(uint64_t id, clk_bytes data, clk_reply *reply)
{
	clk_write_push(id, data, reply);
	return reply->value == CLK_TRUE;
}

/* A resource outlives the stream that it stood for; a stream that is closed leaves it. */
bool clk_is_open(const zend_resource *resource)
{
	return resource->ptr != NULL && resource->type != -1;
}

void clk_warn_closed_source(void)
{
	php_error_docref(NULL, E_WARNING, "The source stream was closed meanwhile, nothing is written");
}

/* Looked up before each piece: a wait, a warning, and a read by a filter or wrapper in PHP run code of the user. During a
 * read PHP goes on using the stream, so that fclose() is refused then. */
static bool push_stream(uint64_t id, const zend_resource *source, clk_reply *reply)
{
	char *buffer = emalloc(CHUNK);
	ssize_t got = 1;
	bool ok = true, open = true;

	while (ok && got > 0 && (open = clk_is_open(source))) {
		php_stream *stream = source->ptr;
		uint32_t others = stream->flags & PHP_STREAM_FLAG_NO_FCLOSE;
		stream->flags |= PHP_STREAM_FLAG_NO_FCLOSE;
		got = php_stream_read(stream, buffer, CHUNK);
		stream->flags = (stream->flags & ~PHP_STREAM_FLAG_NO_FCLOSE) | others;
		ok = got <= 0 || push(id, clk_bytes_of(buffer, (size_t) got), reply);
	}
	efree(buffer);
	if (EG(exception)) {
		return false;
	}
	if (!open) {
		clk_warn_closed_source();
		return false;
	}
	if (got < 0) {
		php_error_docref(NULL, E_WARNING, "The source stream cannot be read");
		return false;
	}
	return ok;
}

static bool push_array(uint64_t id, HashTable *array, clk_reply *reply)
{
	zval *element;

	ZEND_HASH_FOREACH_VAL(array, element) {
		zend_string *temporary;
		zend_string *text = zval_try_get_tmp_string(element, &temporary);
		if (!text) {
			return false;
		}
		/* A conversion may have run an error handler that threw. */
		bool ok = !EG(exception) && push(id, clk_bytes_of_str(text), reply);
		zend_tmp_string_release(temporary);
		if (!ok) {
			return false;
		}
	} ZEND_HASH_FOREACH_END();
	return true;
}

/* opcache.restrict_api makes a call from elsewhere a warning that nobody could do anything about. */
static bool may_invalidate(void)
{
	const char *only = zend_ini_string("opcache.restrict_api", sizeof("opcache.restrict_api") - 1, 0);

	return !only || !*only
		|| (SG(request_info).path_translated && strncmp(SG(request_info).path_translated, only, strlen(only)) == 0);
}

static void forget_script(zend_string *path)
{
	zend_function *invalidate;
	zval arguments[2], result;

	if (ZSTR_LEN(path) < 4 || strcasecmp(ZSTR_VAL(path) + ZSTR_LEN(path) - 4, ".php") != 0) {
		return;
	}
	invalidate = zend_hash_str_find_ptr(CG(function_table), ZEND_STRL("opcache_invalidate"));
	if (!invalidate || !may_invalidate()) {
		return;
	}
	ZVAL_STR(&arguments[0], path);
	ZVAL_TRUE(&arguments[1]);
	zend_call_known_function(invalidate, NULL, NULL, &result, 2, arguments, NULL);
	zval_ptr_dtor(&result);
}

void clk_forget_file(zend_string *path, zend_string *target)
{
	php_clear_stat_cache(1, ZSTR_VAL(path), ZSTR_LEN(path));
	php_clear_stat_cache(1, ZSTR_VAL(target), ZSTR_LEN(target));
	forget_script(target);
}

/* Pushes the data; false: the reply or a raised error says why. */
static bool push_data(uint64_t id, zval *data, zend_string *text, clk_reply *reply)
{
	if (Z_TYPE_P(data) == IS_RESOURCE) {
		return push_stream(id, Z_RES_P(data), reply);
	}
	if (Z_TYPE_P(data) == IS_ARRAY) {
		return push_array(id, Z_ARRVAL_P(data), reply);
	}
	return push(id, clk_bytes_of_str(text), reply);
}

/* From the resolved path to the renamed file. What is half done is cleared by clk_write_abort(), or
 * by the end of the request when PHP does not come back. */
static void replace_file(zend_string *path, zend_long flags, zend_string *lock, zval *data, zend_string *text,
	zval *return_value)
{
	clk_reply reply;
	bool append = (flags & PHP_FILE_APPEND) != 0;

	RETVAL_FALSE;
	if (!clk_before_wait()) {
		return;
	}
	clk_write_begin(clk_bytes_of_str(path), clk_bytes_of_str(lock), &reply);
	uint64_t id = reply.id;
	if (reply.value != CLK_TRUE) {
		clk_tell(&reply);
		return;
	}
	zend_string *target = clk_copy_of(reply.path);
	if (php_check_open_basedir(ZSTR_VAL(target))) {
		goto abort;
	}
	uint64_t resume = 0;
	do {
		clk_write_open(id, append, append || (flags & PHP_LOCK_EX) != 0, resume, &reply);
	} while ((resume = clk_go_on_waiting(&reply)) != 0);
	if (reply.value != CLK_TRUE) {
		clk_tell(&reply);
		goto abort;
	}
	clk_tell(&reply); /* a slow wait */
	if (EG(exception)) {
		goto abort;
	}
	reply.trouble = CLK_FINE;
	if (!push_data(id, data, text, &reply)) {
		if (!EG(exception) && reply.trouble != CLK_FINE) {
			clk_tell(&reply);
		}
		goto abort;
	}
	clk_write_commit(id, &reply);
	/* The warning comes last: its handler shall find everything done. */
	zend_string *message = clk_copy_of(reply.message);
	if (reply.value == CLK_INT) {
		RETVAL_LONG((zend_long) reply.integer);
		clk_forget_file(path, target);
	}
	clk_raise(&reply, message);
	if (message) {
		zend_string_release(message);
	}
	zend_string_release(target);
	return;

abort:
	clk_write_abort(id);
	zend_string_release(target);
}

ZEND_FUNCTION(cluster_file_put_contents)
{
	char *filename;
	size_t filename_len;
	zval *data;
	zend_long flags = 0;
	zend_string *lock = NULL, *text = NULL;

	ZEND_PARSE_PARAMETERS_START(2, 4)
		Z_PARAM_PATH(filename, filename_len)
		Z_PARAM_ZVAL(data)
		Z_PARAM_OPTIONAL
		Z_PARAM_LONG(flags)
		Z_PARAM_STR_OR_NULL(lock)
	ZEND_PARSE_PARAMETERS_END();

	if (filename_len == 0) {
		zend_argument_value_error(1, "must not be empty");
		RETURN_THROWS();
	}
	if (Z_TYPE_P(data) == IS_RESOURCE) {
		php_stream *source;
		php_stream_from_zval(source, data);
		(void) source;
	} else if (Z_TYPE_P(data) == IS_OBJECT) {
		zval converted;
		if (Z_OBJ_HT_P(data)->cast_object(Z_OBJ_P(data), &converted, IS_STRING) == FAILURE) {
			if (!EG(exception)) {
				zend_argument_type_error(2, "must be of type string, array, resource or Stringable, %s given",
					ZSTR_VAL(Z_OBJCE_P(data)->name));
			}
			RETURN_THROWS();
		}
		text = Z_STR(converted);
	} else if (Z_TYPE_P(data) != IS_ARRAY) {
		/* Before anything is held: this may run user code. */
		text = zval_try_get_string(data);
		if (!text || EG(exception)) {
			if (text) {
				zend_string_release(text);
			}
			RETURN_THROWS();
		}
	}

	RETVAL_FALSE;
	zend_string *path = clk_local_path(filename, (flags & PHP_FILE_USE_INCLUDE_PATH) != 0,
		"Only plain local files can be replaced, not those of a stream wrapper");
	if (path) {
		if (!php_check_open_basedir(ZSTR_VAL(path))) {
			replace_file(path, flags, lock, data, text, return_value);
		}
		zend_string_release(path);
	}
	if (text) {
		zend_string_release(text);
	}
}
