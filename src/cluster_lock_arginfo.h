/* This is a generated file, edit the .stub.php file instead.
 * Stub hash: 721d8bbb108c0d667ab561b777210f1917a1e908 */

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_lock, 0, 1, _IS_BOOL, 0)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, timeout, IS_DOUBLE, 1, "null")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, mode, IS_LONG, 0, "LOCK_EX")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, ttl, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_unlock, 0, 1, _IS_BOOL, 0)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_synchronized, 0, 2, IS_MIXED, 0)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO(0, callback, IS_CALLABLE, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, timeout, IS_DOUBLE, 1, "null")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, ttl, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_coalesced, 0, 2, _IS_BOOL, 0)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO(0, work, IS_CALLABLE, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, timeout, IS_DOUBLE, 1, "null")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, ttl, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_MASK_EX(arginfo_cluster_file_put_contents, 0, 2, MAY_BE_LONG|MAY_BE_FALSE)
	ZEND_ARG_TYPE_INFO(0, filename, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO(0, data, IS_MIXED, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, flags, IS_LONG, 0, "0")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, lock, IS_STRING, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_file_build, 0, 2, _IS_BOOL, 0)
	ZEND_ARG_TYPE_INFO(0, target, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO(0, build, IS_CALLABLE, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, sources, IS_ARRAY, 0, "[]")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, timeout, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_flock, 0, 2, _IS_BOOL, 0)
	ZEND_ARG_INFO(0, stream)
	ZEND_ARG_TYPE_INFO(0, operation, IS_LONG, 0)
	ZEND_ARG_INFO_WITH_DEFAULT_VALUE(1, would_block, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_clearstatcache, 0, 1, IS_VOID, 0)
	ZEND_ARG_TYPE_INFO(0, filename, IS_STRING, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_lock_fence, 0, 1, IS_LONG, 1)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_lock_info, 0, 1, IS_ARRAY, 1)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_lock_list, 0, 0, IS_ARRAY, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, prefix, IS_STRING, 0, "\"\"")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, limit, IS_LONG, 0, "1000")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_lock_break, 0, 1, _IS_BOOL, 0)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, fence, IS_LONG, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_cluster_lock_servers, 0, 0, IS_ARRAY, 0)
ZEND_END_ARG_INFO()

#define arginfo_cluster_lock_status arginfo_cluster_lock_servers

ZEND_BEGIN_ARG_INFO_EX(arginfo_class_ClusterLock___construct, 0, 0, 1)
	ZEND_ARG_TYPE_INFO(0, name, IS_STRING, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, mode, IS_LONG, 0, "LOCK_EX")
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, ttl, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLock_acquire, 0, 0, _IS_BOOL, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, timeout, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLock_release, 0, 0, IS_VOID, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLock_refresh, 0, 0, IS_VOID, 0)
	ZEND_ARG_TYPE_INFO_WITH_DEFAULT_VALUE(0, ttl, IS_DOUBLE, 1, "null")
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLock_isHeld, 0, 0, _IS_BOOL, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLock_remaining, 0, 0, IS_DOUBLE, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLock_fence, 0, 0, IS_LONG, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_INFO_EX(arginfo_class_ClusterLock___destruct, 0, 0, 0)
ZEND_END_ARG_INFO()

ZEND_BEGIN_ARG_WITH_RETURN_TYPE_INFO_EX(arginfo_class_ClusterLockLostException_getResult, 0, 0, IS_MIXED, 0)
ZEND_END_ARG_INFO()


ZEND_FUNCTION(cluster_lock);
ZEND_FUNCTION(cluster_unlock);
ZEND_FUNCTION(cluster_synchronized);
ZEND_FUNCTION(cluster_coalesced);
ZEND_FUNCTION(cluster_file_put_contents);
ZEND_FUNCTION(cluster_file_build);
ZEND_FUNCTION(cluster_flock);
ZEND_FUNCTION(cluster_clearstatcache);
ZEND_FUNCTION(cluster_lock_fence);
ZEND_FUNCTION(cluster_lock_info);
ZEND_FUNCTION(cluster_lock_list);
ZEND_FUNCTION(cluster_lock_break);
ZEND_FUNCTION(cluster_lock_servers);
ZEND_FUNCTION(cluster_lock_status);
ZEND_METHOD(ClusterLock, __construct);
ZEND_METHOD(ClusterLock, acquire);
ZEND_METHOD(ClusterLock, release);
ZEND_METHOD(ClusterLock, refresh);
ZEND_METHOD(ClusterLock, isHeld);
ZEND_METHOD(ClusterLock, remaining);
ZEND_METHOD(ClusterLock, fence);
ZEND_METHOD(ClusterLock, __destruct);
ZEND_METHOD(ClusterLockLostException, getResult);


static const zend_function_entry ext_functions[] = {
	ZEND_FE(cluster_lock, arginfo_cluster_lock)
	ZEND_FE(cluster_unlock, arginfo_cluster_unlock)
	ZEND_FE(cluster_synchronized, arginfo_cluster_synchronized)
	ZEND_FE(cluster_coalesced, arginfo_cluster_coalesced)
	ZEND_FE(cluster_file_put_contents, arginfo_cluster_file_put_contents)
	ZEND_FE(cluster_file_build, arginfo_cluster_file_build)
	ZEND_FE(cluster_flock, arginfo_cluster_flock)
	ZEND_FE(cluster_clearstatcache, arginfo_cluster_clearstatcache)
	ZEND_FE(cluster_lock_fence, arginfo_cluster_lock_fence)
	ZEND_FE(cluster_lock_info, arginfo_cluster_lock_info)
	ZEND_FE(cluster_lock_list, arginfo_cluster_lock_list)
	ZEND_FE(cluster_lock_break, arginfo_cluster_lock_break)
	ZEND_FE(cluster_lock_servers, arginfo_cluster_lock_servers)
	ZEND_FE(cluster_lock_status, arginfo_cluster_lock_status)
	ZEND_FE_END
};


static const zend_function_entry class_ClusterLock_methods[] = {
	ZEND_ME(ClusterLock, __construct, arginfo_class_ClusterLock___construct, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, acquire, arginfo_class_ClusterLock_acquire, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, release, arginfo_class_ClusterLock_release, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, refresh, arginfo_class_ClusterLock_refresh, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, isHeld, arginfo_class_ClusterLock_isHeld, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, remaining, arginfo_class_ClusterLock_remaining, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, fence, arginfo_class_ClusterLock_fence, ZEND_ACC_PUBLIC)
	ZEND_ME(ClusterLock, __destruct, arginfo_class_ClusterLock___destruct, ZEND_ACC_PUBLIC)
	ZEND_FE_END
};


static const zend_function_entry class_ClusterLockException_methods[] = {
	ZEND_FE_END
};


static const zend_function_entry class_ClusterLockTimeoutException_methods[] = {
	ZEND_FE_END
};


static const zend_function_entry class_ClusterLockLostException_methods[] = {
	ZEND_ME(ClusterLockLostException, getResult, arginfo_class_ClusterLockLostException_getResult, ZEND_ACC_PUBLIC)
	ZEND_FE_END
};


static const zend_function_entry class_ClusterLockConnectionException_methods[] = {
	ZEND_FE_END
};

static zend_class_entry *register_class_ClusterLock(void)
{
	zend_class_entry ce, *class_entry;

	INIT_CLASS_ENTRY(ce, "ClusterLock", class_ClusterLock_methods);
	class_entry = zend_register_internal_class_ex(&ce, NULL);
	class_entry->ce_flags |= ZEND_ACC_FINAL|ZEND_ACC_NO_DYNAMIC_PROPERTIES|ZEND_ACC_NOT_SERIALIZABLE;

	zval property_name_default_value;
	ZVAL_UNDEF(&property_name_default_value);
	zend_string *property_name_name = zend_string_init("name", sizeof("name") - 1, 1);
	zend_declare_typed_property(class_entry, property_name_name, &property_name_default_value, ZEND_ACC_PUBLIC|ZEND_ACC_READONLY, NULL, (zend_type) ZEND_TYPE_INIT_MASK(MAY_BE_STRING));
	zend_string_release(property_name_name);

	return class_entry;
}

static zend_class_entry *register_class_ClusterLockException(zend_class_entry *class_entry_RuntimeException)
{
	zend_class_entry ce, *class_entry;

	INIT_CLASS_ENTRY(ce, "ClusterLockException", class_ClusterLockException_methods);
	class_entry = zend_register_internal_class_ex(&ce, class_entry_RuntimeException);

	return class_entry;
}

static zend_class_entry *register_class_ClusterLockTimeoutException(zend_class_entry *class_entry_ClusterLockException)
{
	zend_class_entry ce, *class_entry;

	INIT_CLASS_ENTRY(ce, "ClusterLockTimeoutException", class_ClusterLockTimeoutException_methods);
	class_entry = zend_register_internal_class_ex(&ce, class_entry_ClusterLockException);
	class_entry->ce_flags |= ZEND_ACC_FINAL;

	return class_entry;
}

static zend_class_entry *register_class_ClusterLockLostException(zend_class_entry *class_entry_ClusterLockException)
{
	zend_class_entry ce, *class_entry;

	INIT_CLASS_ENTRY(ce, "ClusterLockLostException", class_ClusterLockLostException_methods);
	class_entry = zend_register_internal_class_ex(&ce, class_entry_ClusterLockException);
	class_entry->ce_flags |= ZEND_ACC_FINAL;

	zval property_result_default_value;
	ZVAL_NULL(&property_result_default_value);
	zend_string *property_result_name = zend_string_init("result", sizeof("result") - 1, 1);
	zend_declare_typed_property(class_entry, property_result_name, &property_result_default_value, ZEND_ACC_PRIVATE, NULL, (zend_type) ZEND_TYPE_INIT_MASK(MAY_BE_ANY));
	zend_string_release(property_result_name);

	return class_entry;
}

static zend_class_entry *register_class_ClusterLockConnectionException(zend_class_entry *class_entry_ClusterLockException)
{
	zend_class_entry ce, *class_entry;

	INIT_CLASS_ENTRY(ce, "ClusterLockConnectionException", class_ClusterLockConnectionException_methods);
	class_entry = zend_register_internal_class_ex(&ce, class_entry_ClusterLockException);
	class_entry->ce_flags |= ZEND_ACC_FINAL;

	return class_entry;
}
