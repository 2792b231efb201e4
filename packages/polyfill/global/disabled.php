<?php

/**
 * The one place that knows what of the functions that this package calls disable_functions may take away. False: one
 * is not there without which nothing works, and refusals.php stands for all of src/. For those that can be done
 * without, substitutes.php has others.
 */

declare(strict_types=1);

namespace ClusterLock\Polyfill;

use Error;

return (static function (): bool {
    $needed = [
        'abs', 'array_chunk', 'array_column', 'array_combine', 'array_diff_key', 'array_filter', 'array_key_exists',
        'array_keys', 'array_map', 'array_replace', 'array_reverse', 'array_shift', 'array_slice', 'array_sum',
        'array_values', 'basename', 'bin2hex', 'chr', 'class_exists', 'clearstatcache', 'closedir', 'constant',
        'count', 'debug_backtrace', 'defined', 'dirname', 'end', 'explode', 'extension_loaded', 'fclose', 'feof',
        'fflush', 'file', 'file_exists', 'file_get_contents', 'file_put_contents', 'filectime', 'filemtime',
        'floor', 'fmod', 'fopen', 'fread', 'fseek', 'fstat', 'ftell', 'ftruncate', 'function_exists', 'fwrite',
        'get_debug_type', 'get_resource_id', 'get_resource_type', 'get_resources', 'getcwd', 'gettype', 'hexdec',
        'hrtime', 'implode', 'in_array', 'intdiv', 'is_array', 'is_bool', 'is_callable', 'is_dir',
        'is_file', 'is_int', 'is_link', 'is_numeric', 'is_object', 'is_readable', 'is_resource', 'is_scalar', 'is_string', 'is_writable',
        'iterator_to_array', 'json_decode', 'json_encode', 'ksort', 'lstat', 'ltrim', 'max', 'method_exists',
        'microtime', 'min', 'mkdir', 'ord', 'pack', 'preg_match', 'preg_match_all', 'preg_replace',
        'preg_replace_callback', 'random_bytes', 'rawurldecode', 'readdir', 'register_shutdown_function', 'rename',
        'restore_error_handler', 'rtrim', 'serialize', 'set_error_handler', 'sha1', 'shuffle',
        'spl_autoload_register', 'spl_object_id', 'sprintf', 'stat', 'str_contains', 'str_ends_with', 'str_repeat',
        'str_replace', 'str_starts_with', 'strcasecmp', 'strcmp', 'strcspn', 'stream_context_get_options',
        'stream_context_set_option', 'stream_copy_to_stream', 'stream_get_meta_data', 'stream_resolve_include_path',
        'stream_select', 'stream_set_blocking', 'stripos', 'strlen', 'strpbrk', 'strrpos', 'strstr',
        'strtolower', 'strtoupper', 'substr', 'time', 'touch', 'trim', 'unlink', 'unpack', 'urldecode',
        'usleep', 'usort',
    ];
    $substituted = [
        'chgrp', 'chmod', 'chown', 'error_log', 'fdatasync', 'flock', 'fsync', 'get_cfg_var', 'getenv', 'gethostname',
        'getmypid', 'opendir', 'php_uname', 'readlink', 'realpath', 'scandir', 'trigger_error', 'umask',
    ];
    try {
        $has = \function_exists(...);
        $missing = [];
        foreach ($needed as $name) {
            if (!$has($name)) {
                $missing[] = $name;
            }
        }
        // A fork that goes unseen would make two holders of one.
        if (!$has('getmypid') && !$has('posix_getpid') && $has('pcntl_fork')) {
            $missing[] = 'getmypid';
        }
        foreach ($substituted as $name) {
            if ($missing === [] && !$has($name)) {
                require_once __DIR__ . '/substitutes.php';
            }
        }
    } catch (Error) {
        $missing = ['function_exists'];
    }
    if ($missing !== []) {
        require __DIR__ . '/refusals.php';
        Refusal::$missing = $missing[0];
    }

    return $missing === [];
})();
