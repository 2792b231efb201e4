#!/bin/sh
# redis.sh PASSWORD-FILE [OPTION...]: a Redis for locks alone, whose one user can do what cluster_lock needs and nothing else.
# compose.yml and kustomization.yaml start it; the password is nowhere but in that file, here only its SHA-256.
set -eu

password=$(cat "$1")
shift
users=$(mktemp)
cat >"$users" <<ACL
user default off
user cluster_lock on #$(printf %s "$password" | sha256sum | cut -d ' ' -f 1) ~cluster_lock:* -@all +hello +select +evalsha +eval +blpop +rpush +scan +time +get +set +setrange +del +exists +pexpire +zadd +zrem +zscore +zcard +zrank +zrange +zrangebyscore +hset +hget +hdel
ACL
# Locks end with their lease, so nothing is kept on disk (?grace= in cluster_lock.ini is for a restart); and none may be thrown away for want of memory.
exec redis-server --aclfile "$users" --save '' --appendonly no --maxmemory 100mb --maxmemory-policy noeviction "$@"
