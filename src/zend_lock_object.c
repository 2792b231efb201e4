/* ClusterLock: PHP's object is an id; its state is in the request's table, on the Rust side. */
#include "zend_glue.h"

#include "ext/standard/flock_compat.h"

static zend_object_handlers lock_handlers;

typedef struct {
	uint64_t id; /* 0: the constructor has not run */
	zend_object std;
} lock_object;

static lock_object *object_of(zend_object *std)
{
	return (lock_object *) ((char *) std - offsetof(lock_object, std));
}

static zend_object *lock_create(zend_class_entry *ce)
{
	lock_object *object = zend_object_alloc(sizeof(lock_object), ce);

	object->id = 0;
	zend_object_std_init(&object->std, ce);
	object_properties_init(&object->std, ce);
	object->std.handlers = &lock_handlers;
	return &object->std;
}

static void lock_free(zend_object *std)
{
	lock_object *object = object_of(std);

	if (object->id != 0) {
		clk_object_free(object->id);
		object->id = 0;
	}
	zend_object_std_dtor(std);
}

/* The id of $this; 0 and an exception when the constructor has not run. */
static uint64_t this_id(zval *this)
{
	uint64_t id = object_of(Z_OBJ_P(this))->id;

	if (id == 0) {
		zend_throw_error(NULL, "The ClusterLock object has not been initialized by its constructor");
	}
	return id;
}

ZEND_METHOD(ClusterLock, __construct)
{
	zend_string *name;
	zend_long mode = PHP_LOCK_EX;
	double ttl = 0;
	bool no_ttl = true;
	clk_reply reply;
	lock_object *object = object_of(Z_OBJ_P(ZEND_THIS));

	ZEND_PARSE_PARAMETERS_START(1, 3)
		Z_PARAM_STR(name)
		Z_PARAM_OPTIONAL
		Z_PARAM_LONG(mode)
		Z_PARAM_DOUBLE_OR_NULL(ttl, no_ttl)
	ZEND_PARSE_PARAMETERS_END();

	if (object->id != 0) {
		zend_throw_error(NULL, "Cannot call ClusterLock::__construct() twice");
		RETURN_THROWS();
	}
	clk_object_new(clk_bytes_of_str(name), mode, clk_seconds_of(ttl, no_ttl), &reply);
	if (reply.value != CLK_TRUE) {
		clk_tell(&reply);
		RETURN_THROWS();
	}
	object->id = reply.id;
	zend_update_property_str(clk_lock_ce, &object->std, ZEND_STRL("name"), name);
}

ZEND_METHOD(ClusterLock, acquire)
{
	double timeout = 0;
	bool no_timeout = true;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(0, 1)
		Z_PARAM_OPTIONAL
		Z_PARAM_DOUBLE_OR_NULL(timeout, no_timeout)
	ZEND_PARSE_PARAMETERS_END();

	uint64_t id = this_id(ZEND_THIS);
	if (id == 0 || !clk_before_wait()) {
		return;
	}
	uint64_t resume = 0;
	do {
		clk_object_acquire(id, clk_seconds_of(timeout, no_timeout), resume, &reply);
	} while ((resume = clk_go_on_waiting(&reply)) != 0);
	clk_answer(&reply, return_value);
}

ZEND_METHOD(ClusterLock, refresh)
{
	double ttl = 0;
	bool no_ttl = true;
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_START(0, 1)
		Z_PARAM_OPTIONAL
		Z_PARAM_DOUBLE_OR_NULL(ttl, no_ttl)
	ZEND_PARSE_PARAMETERS_END();

	uint64_t id = this_id(ZEND_THIS);
	if (id == 0) {
		RETURN_THROWS();
	}
	clk_object_refresh(id, clk_seconds_of(ttl, no_ttl), &reply);
	clk_answer(&reply, return_value);
}

/* A method without arguments. */
static void call_plain(INTERNAL_FUNCTION_PARAMETERS, void (*work)(uint64_t id, clk_reply *reply))
{
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_NONE();

	uint64_t id = this_id(ZEND_THIS);
	if (id == 0) {
		RETURN_THROWS();
	}
	work(id, &reply);
	clk_answer(&reply, return_value);
}

ZEND_METHOD(ClusterLock, release)
{
	call_plain(INTERNAL_FUNCTION_PARAM_PASSTHRU, clk_object_release);
}

ZEND_METHOD(ClusterLock, isHeld)
{
	call_plain(INTERNAL_FUNCTION_PARAM_PASSTHRU, clk_object_is_held);
}

ZEND_METHOD(ClusterLock, remaining)
{
	call_plain(INTERNAL_FUNCTION_PARAM_PASSTHRU, clk_object_remaining);
}

ZEND_METHOD(ClusterLock, fence)
{
	call_plain(INTERNAL_FUNCTION_PARAM_PASSTHRU, clk_object_fence);
}

ZEND_METHOD(ClusterLock, __destruct)
{
	clk_reply reply;

	ZEND_PARSE_PARAMETERS_NONE();

	/* An object that was never constructed (its constructor threw) is destroyed without a word. */
	uint64_t id = object_of(Z_OBJ_P(ZEND_THIS))->id;
	if (id != 0) {
		clk_object_destruct(id, &reply);
		clk_tell(&reply);
	}
}

void clk_prepare_lock_class(zend_class_entry *ce)
{
	ce->create_object = lock_create;
	memcpy(&lock_handlers, &std_object_handlers, sizeof(lock_handlers));
	lock_handlers.offset = offsetof(lock_object, std);
	lock_handlers.free_obj = lock_free;
	lock_handlers.clone_obj = NULL;
}
