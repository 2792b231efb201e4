--TEST--
A lock, a second holder who has to wait, and a file that is written under the lock, without a server
--EXTENSIONS--
cluster_lock
--INI--
cluster_lock.dsn=local:
cluster_lock.timeout=5
--FILE--
<?php
$name = 'phpt ' . getmypid();
$file = sys_get_temp_dir() . '/cluster_lock phpt ' . getmypid();

var_dump(cluster_lock($name));
var_dump((new ClusterLock($name))->acquire(0));
$fence = cluster_lock_fence($name);
var_dump(cluster_file_put_contents($file, 'whole', 0, $name), file_get_contents($file));
var_dump(cluster_unlock($name));

var_dump((new ClusterLock($name))->acquire(0));
var_dump(cluster_lock($name), cluster_lock_fence($name) > $fence);
var_dump(cluster_unlock($name));
?>
--CLEAN--
<?php
array_map('unlink', glob(sys_get_temp_dir() . '/cluster_lock phpt *'));
?>
--EXPECT--
bool(true)
bool(false)
int(5)
string(5) "whole"
bool(true)
bool(true)
bool(true)
bool(true)
bool(true)
