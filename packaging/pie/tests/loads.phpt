--TEST--
The extension that was just built loads, and knows its version and its functions
--EXTENSIONS--
cluster_lock
--FILE--
<?php
$version = phpversion('cluster_lock');
var_dump(preg_match('/^\d+\.\d+\.\d+/', $version));
var_dump(cluster_lock_status()['version'] === $version);
foreach (get_extension_funcs('cluster_lock') as $function) {
    if (!is_callable($function)) {
        echo "$function cannot be called\n";
    }
}
var_dump(in_array('cluster_flock', get_extension_funcs('cluster_lock'), true));
var_dump(class_exists('ClusterLock', false));
?>
--EXPECT--
int(1)
bool(true)
bool(true)
bool(true)
