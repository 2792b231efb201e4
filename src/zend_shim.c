/*
 * What ext-php-rs has no binding for: functions whose arguments behave exactly as those of PHP's own,
 * ini entries that check what they are given, exceptions with Exception's own handlers, and the
 * streams that cluster_file_put_contents() may read. All decisions are in Rust.
 *
 * Layout: this file registers, and has the hooks of the life cycle. zend_functions.c,
 * zend_lock_object.c, zend_file_write.c and zend_streams.c are what PHP calls, zend_call.c looks who has called them,
 * zend_reply.c turns Rust's answers into PHP's; zend_shim.h is the border to Rust, with its one rule.
 */
#include "zend_glue.h"

#include "SAPI.h"
#include "ext/spl/spl_exceptions.h"
#include "ext/standard/info.h"
#include "php_ini.h"
#include "zend_attributes.h"
#include "zend_exceptions.h"
#include "zend_observer.h"

#include <syslog.h>

#include "cluster_lock_arginfo.h"

zend_class_entry *clk_lock_ce;
zend_class_entry *clk_exception_ce;
zend_class_entry *clk_timeout_ce;
zend_class_entry *clk_lost_ce;
zend_class_entry *clk_connection_ce;

static int (*next_activate)(void);
static int (*next_deactivate)(void);
static zif_handler next_handle_request;

static CLK_PER_THREAD bool ending;
static CLK_PER_THREAD bool between_requests; /* of a worker's script */
/* A request that has no locks and no settings of its own must cost nothing: not even the pages of memory that the code for
 * them is in. */
static CLK_PER_THREAD bool table_used;
static CLK_PER_THREAD bool set_anew;

/* php.ini */

static uint32_t set_by(int stage)
{
	switch (stage) {
		case ZEND_INI_STAGE_STARTUP:
			return CLK_BY_START;
		case ZEND_INI_STAGE_ACTIVATE:
			/* php-fpm sets what its pool says when it has forked, and has no request yet. */
			return SG(server_context) ? CLK_BY_REQUEST : CLK_BY_POOL;
		case ZEND_INI_STAGE_HTACCESS:
			return CLK_BY_REQUEST;
		default:
			return CLK_BY_CODE;
	}
}

static ZEND_INI_MH(on_setting)
{
	clk_reply reply;
	uint32_t by = set_by(stage);

	(void) mh_arg1;
	(void) mh_arg2;
	(void) mh_arg3;
	set_anew = true;
	clk_setting(clk_bytes_of_str(entry->name), new_value ? clk_bytes_of_str(new_value) : clk_bytes_of("", 0), by, &reply);
	/* At the end of a request an old value comes back, which is no news to anybody; of a pool's, see clk_shim_rinit(). */
	if (stage != ZEND_INI_STAGE_DEACTIVATE && stage != ZEND_INI_STAGE_SHUTDOWN && by != CLK_BY_POOL) {
		clk_tell(&reply);
	}
	return reply.value == CLK_TRUE ? SUCCESS : FAILURE;
}

/*
 * The entries of Rust's table. PHP 8.5 keeps pointers to what it is given, and copies them for every thread: it is made
 * once for the process, and stays.
 */
static const zend_ini_entry_def *settings(void)
{
	static zend_ini_entry_def *all;
	size_t count = clk_ini_entries();
	clk_ini_entry entry;

	if (all) {
		return all;
	}
	all = pecalloc(count + 1, sizeof(*all), 1); /* the last one, all zeros, ends it */
	for (size_t index = 0; clk_ini_entry_at(index, &entry); index++) {
		all[index] = (zend_ini_entry_def){
			.name = zend_strndup((const char *) entry.name.ptr, entry.name.len),
			.name_length = (uint16_t) entry.name.len,
			.value = zend_strndup((const char *) entry.value.ptr, entry.value.len),
			.value_length = (uint32_t) entry.value.len,
			.on_modify = on_setting,
			.modifiable = entry.anywhere ? PHP_INI_ALL : PHP_INI_SYSTEM,
			.displayer = entry.is_switch ? zend_ini_boolean_displayer_cb : NULL,
		};
	}
	return all;
}

/*
 * Replaces the DSN that PHP keeps by one without credentials, so that neither phpinfo() nor
 * ini_get() nor anybody else can tell it. Rust knows the real one, and knows it again by its
 * redacted form when PHP hands that back (a new thread, a restored value). Also at every request:
 * fpm's pools and Apache's virtual hosts set theirs after the start.
 */
static void hide_password(void)
{
	zend_ini_entry *entry = zend_hash_str_find_ptr(EG(ini_directives), ZEND_STRL("cluster_lock.dsn"));
	clk_bytes shown = clk_dsn_shown();

	if (!entry || !entry->value || !shown.ptr
		|| (ZSTR_LEN(entry->value) == shown.len && memcmp(ZSTR_VAL(entry->value), shown.ptr, shown.len) == 0)) {
		return;
	}
	zend_string *hidden = zend_string_init((const char *) shown.ptr, shown.len, 1);
	zend_string_release(entry->value);
	entry->value = hidden;
}

static void hide_password_in(HashTable *configuration)
{
	zval *value = zend_hash_str_find(configuration, ZEND_STRL("cluster_lock.dsn"));

	if (!value || Z_TYPE_P(value) != IS_STRING) {
		return;
	}
	clk_bytes shown = clk_hide_dsn(clk_bytes_of_str(Z_STR_P(value)));
	if (shown.ptr) {
		zend_string *old = Z_STR_P(value);
		ZVAL_NEW_STR(value, zend_string_init((const char *) shown.ptr, shown.len, 1));
		zend_string_release(old);
	}
}

/* The same for get_cfg_var(), which also shows the sections [HOST=...] and [PATH=...] as arrays. */
static void hide_passwords_in_configuration(void)
{
	HashTable *configuration = php_ini_get_configuration_hash();
	zval *section;

	hide_password_in(configuration);
	ZEND_HASH_FOREACH_VAL(configuration, section) {
		if (Z_TYPE_P(section) == IS_ARRAY) {
			hide_password_in(Z_ARRVAL_P(section));
		}
	} ZEND_HASH_FOREACH_END();
}

/* Life cycle. */

bool clk_request_is_ending(void)
{
	return ending;
}

bool clk_shim_is_table_used(void)
{
	return table_used;
}

void clk_shim_set_table_used(bool used)
{
	table_used = used;
}

/* Swoole's coroutines have contexts of their own, of which PHP knows nothing. Only an internal function is called: it
   runs no code of a user's. */
static bool in_coroutine_of(const char *module, size_t module_len, const char *class_name, size_t class_name_len)
{
	zend_class_entry *ce;
	zend_function *get_id;
	zval id;
	bool inside;

	if (!zend_hash_str_exists(&module_registry, module, module_len)) {
		return false;
	}
	ce = zend_hash_str_find_ptr(CG(class_table), class_name, class_name_len);
	get_id = ce ? zend_hash_str_find_ptr(&ce->function_table, ZEND_STRL("getcid")) : NULL;
	if (!get_id || get_id->type != ZEND_INTERNAL_FUNCTION || !(get_id->common.fn_flags & ZEND_ACC_STATIC)) {
		return false;
	}
	ZVAL_UNDEF(&id);
	zend_call_known_function(get_id, NULL, ce, &id, 0, NULL, NULL);
	/* -1 outside of them. */
	inside = Z_TYPE(id) == IS_LONG && Z_LVAL(id) >= 0;
	zval_ptr_dtor(&id);
	return inside;
}

bool clk_shim_in_coroutine(void)
{
	return in_coroutine_of(ZEND_STRL("swoole"), ZEND_STRL("swoole\\coroutine"))
		|| in_coroutine_of(ZEND_STRL("openswoole"), ZEND_STRL("openswoole\\coroutine"));
}

uintptr_t clk_shim_fiber(void)
{
	return EG(current_fiber_context) == EG(main_fiber_context) ? 0 : (uintptr_t) EG(current_fiber_context);
}

/* The next one may have its address. */
static void on_fiber_destroyed(zend_fiber_context *fiber)
{
	clk_fiber_ended((uintptr_t) fiber);
}

/* A handler may give locks back, too. */
#define CLK_OWED_AT_MOST 100

/* What came of locks that were given back without waiting for the answer, while handlers are called yet. One that throws, or
   exits, must not keep other extensions from their end. */
static void tell_owed(void)
{
	clk_reply reply;

	zend_try {
		for (int told = 0; told < CLK_OWED_AT_MOST && clk_owed(&reply); told++) {
			clk_tell(&reply);
		}
	} zend_end_try();
	if (EG(exception)) {
		zend_clear_exception();
	}
}

static void log_owed(void)
{
	clk_reply reply;

	while (clk_owed(&reply)) {
		zend_string *message = clk_copy_of(reply.message);
		clk_log(message, LOG_WARNING);
		zend_string_release(message);
	}
}

static void end_request(void)
{
	if (table_used) {
		clk_request_end();
		log_owed();
	}
}

/* FrankenPHP's workers serve many requests between RINIT and RSHUTDOWN; each ends here. */
static int on_deactivate(void)
{
	end_request();
	between_requests = !ending;
	return next_deactivate ? next_deactivate() : SUCCESS;
}

/* And begins here: what such a script has locked between two of them is none of the next one's. */
static int on_activate(void)
{
	end_request();
	between_requests = false;
	return next_activate ? next_activate() : SUCCESS;
}

/* Nor is it held while the script waits for the next one, which may be long. */
static void on_handle_request(INTERNAL_FUNCTION_PARAMETERS)
{
	if (between_requests) {
		end_request();
	}
	next_handle_request(INTERNAL_FUNCTION_PARAM_PASSTHRU);
}

static zend_internal_function *handle_request_of_worker(void)
{
	zend_function *function = zend_hash_str_find_ptr(CG(function_table), ZEND_STRL("frankenphp_handle_request"));

	return function && function->type == ZEND_INTERNAL_FUNCTION ? &function->internal_function : NULL;
}

/* Threads copy it when they begin. */
static void hook_handle_request(void)
{
	zend_internal_function *function = handle_request_of_worker();

	if (function) {
		next_handle_request = function->handler;
		function->handler = on_handle_request;
	}
}

static void unhook_handle_request(void)
{
	zend_internal_function *function = handle_request_of_worker();

	if (function && function->handler == on_handle_request) {
		function->handler = next_handle_request;
	}
}

/* The server module is a copy of PHP's own, made whenever PHP starts. */
static void hook_server_module(void)
{
	next_activate = sapi_module.activate;
	sapi_module.activate = on_activate;
	next_deactivate = sapi_module.deactivate;
	sapi_module.deactivate = on_deactivate;
}

static void unhook_server_module(void)
{
	if (sapi_module.activate == on_activate) {
		sapi_module.activate = next_activate;
	}
	if (sapi_module.deactivate == on_deactivate) {
		sapi_module.deactivate = next_deactivate;
	}
}

static void register_classes(void)
{
	clk_exception_ce = register_class_ClusterLockException(spl_ce_RuntimeException);
	clk_timeout_ce = register_class_ClusterLockTimeoutException(clk_exception_ce);
	clk_lost_ce = register_class_ClusterLockLostException(clk_exception_ce);
	clk_connection_ce = register_class_ClusterLockConnectionException(clk_exception_ce);

	clk_lock_ce = register_class_ClusterLock();
	clk_prepare_lock_class(clk_lock_ce);
}

/*
 * #[\NoDiscard] as the stub has it: code that goes on without looking whether it got the lock is warned. The generator of
 * cluster_lock_arginfo.h is that of a PHP without such an attribute, so it is added here. cluster_flock() has none, as
 * flock() has none: `flock($file, LOCK_UN);` is written everywhere.
 */
static void mark_no_discard(void)
{
#if PHP_VERSION_ID >= 80500
	zend_function *function = zend_hash_str_find_ptr(CG(function_table), ZEND_STRL("cluster_lock"));
	zend_string *name = zend_string_init_interned(ZEND_STRL("NoDiscard"), true);
	zend_attribute *attribute = zend_add_function_attribute(function, name, 1);

	ZVAL_STR(&attribute->args[0].value, zend_string_init(ZEND_STRL("as the lock may not have been acquired"), true));
	zend_string_release(name);
	function->common.fn_flags |= ZEND_ACC_NODISCARD;
#endif
}

int clk_shim_minit(int type, int module_number)
{
	/* By the name that the macro below has for it. */
	const zend_ini_entry_def *ini_entries = settings();

	clk_process_begin();
	clk_prepare_signals();
	REGISTER_INI_ENTRIES();
	hide_passwords_in_configuration();
	hide_password();
	if (zend_register_functions(NULL, ext_functions, NULL, type) == FAILURE) {
		return FAILURE;
	}
	mark_no_discard();
	register_classes();
	zend_observer_fiber_destroy_register(on_fiber_destroyed);
	if (type == MODULE_PERSISTENT) {
		hook_server_module();
		hook_handle_request();
	}
	clk_hook_streams();
	set_anew = false; /* of all that was set by now nothing is a request's, and the password is hidden */
	return SUCCESS;
}

int clk_shim_mshutdown(int type, int module_number)
{
	clk_process_end();
	unhook_server_module();
	unhook_handle_request();
	clk_unhook_streams();
	if (type == MODULE_TEMPORARY) {
		zend_unregister_functions(ext_functions, -1, NULL);
	}
	UNREGISTER_INI_ENTRIES();
	return SUCCESS;
}

static void log_unheard(void)
{
	for (clk_bytes next = clk_unheard(); next.ptr; next = clk_unheard()) {
		zend_string *line = clk_copy_of(next);
		clk_log(line, LOG_WARNING);
		zend_string_release(line);
	}
}

int clk_shim_rinit(int type, int module_number)
{
	(void) type;
	(void) module_number;
	ending = false;
	if (set_anew) {
		hide_password();
		log_unheard();
	}
	return SUCCESS;
}

/* Extensions are shut down in the reverse of the order in which they were loaded, and some of those after us run code of the
 * user: session's writes what a handler in PHP may have locked for. So nothing is given back yet. */
int clk_shim_rshutdown(int type, int module_number)
{
	(void) type;
	(void) module_number;
	if (table_used) {
		tell_owed();
	}
	ending = true;
	return SUCCESS;
}

/* No code of the user runs any more: every stream and every object is gone. What they have given back is told before the
   table is empty, or nobody would be told, or the next request. */
int clk_shim_post_deactivate(void)
{
	end_request();
	if (table_used) {
		clk_request_gone();
	}
	if (set_anew) {
		/* PHP has put back what the request had set. */
		hide_password();
		clk_request_settings_gone();
		set_anew = false;
	}
	return SUCCESS;
}

/* phpinfo() */

static void refused_rows(HashTable *refused)
{
	zval *one;

	ZEND_HASH_FOREACH_VAL(refused, one) {
		zval *message = zend_hash_str_find(Z_ARRVAL_P(one), ZEND_STRL("message"));
		if (message) {
			php_info_print_table_row(2, "refused", Z_STRVAL_P(message));
		}
	} ZEND_HASH_FOREACH_END();
}

static void info_rows(const char *group, HashTable *values)
{
	zend_string *key;
	zval *value;

	ZEND_HASH_FOREACH_STR_KEY_VAL(values, key, value) {
		if (!key) {
			continue;
		}
		if (Z_TYPE_P(value) == IS_ARRAY) {
			if (zend_string_equals_literal(key, "held")) {
				continue;
			}
			if (zend_string_equals_literal(key, "refused")) {
				refused_rows(Z_ARRVAL_P(value));
				continue;
			}
			info_rows(ZSTR_VAL(key), Z_ARRVAL_P(value));
			continue;
		}
		zend_string *text = zval_get_string(value);
		zend_string *label = strpprintf(0, "%s%s%s", group, *group ? "." : "", ZSTR_VAL(key));
		php_info_print_table_row(2, ZSTR_VAL(label), Z_TYPE_P(value) == IS_NULL ? "unknown" : ZSTR_VAL(text));
		zend_string_release(label);
		zend_string_release(text);
	} ZEND_HASH_FOREACH_END();
}

void clk_shim_minfo(zend_module_entry *zend_module)
{
	clk_reply reply;
	zval status;

	ZVAL_NULL(&status);
	clk_status(&status, &reply);
	if (reply.value == CLK_BAILOUT) {
		zend_bailout();
	}
	php_info_print_table_start();
	php_info_print_table_row(2, "cluster_lock support", "enabled");
	if (reply.value == CLK_ARRAY) {
		info_rows("", Z_ARRVAL(status));
	}
	php_info_print_table_end();
	zval_ptr_dtor(&status);
	DISPLAY_INI_ENTRIES();
}
