<?php

/**
 * The PHP surface of the extension cluster_lock, and the source of src/cluster_lock_arginfo.h
 * (`script/stubs` writes it, `script/stubs --check` fails when the two differ).
 *
 * Functions behave like PHP's own: bad arguments throw ValueError or TypeError, "somebody else has
 * it" is a silent false, a failure is false and one E_WARNING that names the lock, the server and
 * the cause. Objects throw.
 *
 * A "round trip" is one command to the server and its answer.
 *
 * @generate-class-entries
 */

/**
 * Acquires a lock that all PHP processes of the cluster share, waiting for it if need be.
 *
 * One round trip when the lock is free. A wait costs one round trip and one more when the lock is
 * handed over; nothing is polled. First come, first served, over all nodes.
 *
 * Held locks nest: the same request may lock the same name again (no round trip; $ttl is not looked
 * at) and needs as many cluster_unlock(). LOCK_SH while it holds LOCK_EX nests as well. LOCK_EX while
 * it holds LOCK_SH converts, which like flock(2) is not atomic: others may be let in between, and
 * when it times out or fails nothing is held any more. A call that could only wait for this very
 * request (a ClusterLock object holds the name) fails at once with a warning, and leaves what is
 * held alone.
 *
 * A signal's handler (pcntl_async_signals()) runs during the wait, which then goes on in the same
 * place; a handler that wants it to end throws or exits.
 *
 * A lock that was held and is found to be lost is told by a warning and acquired afresh.
 *
 * From PHP 8.5 on, code that does not use the result is warned (#[\NoDiscard]); (void) says that it is meant.
 *
 * The end of the request releases what it still holds, however it ends. A forked child holds none
 * of its parent's locks.
 *
 * @param string $name 1 to 1024 bytes, any bytes; else ValueError
 * @param float|null $timeout longest wait in seconds; null: cluster_lock.timeout; 0: one try; INF: no
 *     limit; negative or NAN: ValueError
 * @param int $mode LOCK_EX or LOCK_SH, optionally | LOCK_NB (the same as $timeout 0); else ValueError
 * @param float|null $ttl the lease in seconds, which is how long a dead holder blocks the others;
 *     null: cluster_lock.ttl; at least 0.1, else ValueError
 * @return bool true: held. false without a warning: the time is up. false with E_WARNING: the server
 *     cannot be reached or refuses; or (sentinels, cluster) the time is up and no other server has
 *     taken its place
 */
#[\NoDiscard('as the lock may not have been acquired')]
function cluster_lock(string $name, ?float $timeout = null, int $mode = LOCK_EX, ?float $ttl = null): bool {}

/**
 * Gives a lock back that cluster_lock() acquired. One round trip; none for a nested lock.
 *
 * @param string $name 1 to 1024 bytes; else ValueError
 * @return bool true only if the lock was ours from acquire to release. false with E_WARNING: it is
 *     not held by this request; or was lost meanwhile, and how; or the server cannot be reached (the
 *     lock comes free when its lease runs out; while sentinels or a cluster are replacing the server
 *     this is tried for 10 s). Whatever the answer, this request holds it once less. With
 *     cluster_lock.confirmed_unlocks off the server's answer is not waited for: true says what this machine knows, and
 *     what the server says is warned of later.
 */
function cluster_unlock(string $name): bool {}

/**
 * Acquires a lock, calls, and releases the lock whatever happens in the callback: return,
 * exception, exit, fatal error. Two round trips when the lock is free; none when this request
 * holds it already (it nests as in cluster_lock()).
 *
 * @param string $name 1 to 1024 bytes; else ValueError
 * @param callable $callback called without arguments, once
 * @param float|null $timeout as in cluster_lock()
 * @param float|null $ttl as in cluster_lock()
 * @return mixed what the callback returns
 * @throws ClusterLockTimeoutException the time is up: not called
 * @throws ClusterLockConnectionException the server cannot be reached: not called
 * @throws ClusterLockLostException after the callback, which did not throw: the lock was lost, or
 *     unlocked, while it ran; getResult() has what the callback returned. When the callback threw, its
 *     exception is thrown, the loss is its innermost getPrevious(), and E_WARNING tells it
 * @throws ClusterLockException any other failure: not called
 */
function cluster_synchronized(string $name, callable $callback, ?float $timeout = null, ?float $ttl = null): mixed {}

/**
 * Has $work done once for all who want it done: commit the change first, then call; $work reads its inputs
 * anew. True only if a run of $work that began after this call is complete, here or on any node. Whoever
 * comes while a run is under way waits, and one of them runs for all of them: however many call at once,
 * there are two runs. What $work has captured before (a variable, a cache, an open transaction, a replica
 * that lags behind) is not read anew, and no lock can mend that.
 *
 * A run holds the exclusive lock $name: cluster_lock_fence($name) and cluster_file_put_contents(…, lock:
 * $name) work inside, and plain users of the name have their turns between the runs. Two round trips when
 * nobody has it. In a cluster_lock($name) of this request it nests: then the run is done at once, without a
 * round trip, and covers nobody else.
 *
 * @param string $name 1 to 1024 bytes; else ValueError
 * @param callable $work called without arguments, once or not at all. It may return anything; false: it has
 *     failed, which covers nobody, and whoever is next runs. So it is with a Generator, which nobody would run
 * @param float|null $timeout longest wait for the run's beginning or another one's end; as in
 *     cluster_lock(). 0: false when anybody has the lock
 * @param float|null $ttl as in cluster_lock()
 * @return bool false without a warning: the time is up, or $work has returned false. false with E_WARNING:
 *     it has returned a Generator; the lock was lost, or unlocked, during the run; the server cannot be
 *     reached; or waiting could only deadlock: inside a run of this request, or when the request holds the
 *     lock shared or by an object or a stream. true with E_WARNING: it was done, and the server could not be told, so that it covers nobody
 *     else. What $work throws comes through, and covers nobody
 */
function cluster_coalesced(string $name, callable $work, ?float $timeout = null, ?float $ttl = null): bool {}

/**
 * file_put_contents() that readers can never see half done: writes a temporary file in the same
 * directory, syncs it (cluster_lock.durable_writes), gives it the mode of the old file (and its
 * owner, group, ACL and extended attributes where permitted; 0666 & ~umask for a new file), renames
 * it over the old one, and syncs the directory. On any failure the old file is untouched and no
 * temporary file is left. Symbolic links are followed to their target. What killed writers left in the
 * directory an hour ago goes with the write. A file that is a mount point by itself cannot be replaced:
 * E_WARNING and false; or, where cluster_lock.mount_point_writes is in_place, and under a lock, it is
 * written in place once $data has been read to its end, and who reads without the lock may see half of it.
 *
 * Without a lock no round trip. With LOCK_EX or FILE_APPEND two to acquire and release, and one
 * to make sure of the lock just before the rename; with $lock that one only. In place two more of these.
 *
 * PHP's stat cache for the path is cleared, and opcache forgets the script when it ends in .php.
 *
 * @param string $filename a local path (file:// is allowed; other stream wrappers: E_WARNING and
 *     false), within open_basedir; NUL: ValueError
 * @param mixed $data string, scalar, null, Stringable, array of those, or a stream that is read to
 *     its end; an object without __toString(): Error, a closed stream: TypeError
 * @param int $flags LOCK_EX: hold the cluster lock of the file for the whole operation (waits for at
 *     most cluster_lock.timeout). FILE_APPEND: copy, append, rename; implies LOCK_EX.
 *     FILE_USE_INCLUDE_PATH: look for an existing file there. Others are ignored, as in
 *     file_put_contents()
 * @param string|null $lock a lock that this request holds by cluster_lock(): it is verified just before
 *     the rename, and when it is lost nothing is renamed
 * @return int|false bytes of $data written; false with E_WARNING when nothing was changed (also when
 *     the file's lock was not to be had in time). A warning with an int: the file is in place, but
 *     the directory could not be synced or the lock not given back
 */
function cluster_file_put_contents(string $filename, mixed $data, int $flags = 0, ?string $lock = null): int|false {}

/**
 * make(1) for a cluster: makes a file from others, once for all who want it, unless it is newer than they are. True only if the
 * file has everything that was done to its sources before this call.
 *
 * It is fresh, without a lock, a connection or a call of $build, if it is there and its modification time is by more than a
 * second later than the change time (ctime) of every source, as the file server has them: so much is taken for a write that has
 * begun and is not done, and for clocks that differ. What is built within a second of a change is built once more. The change
 * time counts, because mv, rsync -t and tar bring old modification times; so chmod of a source makes one build, too. Every
 * symbolic link on the way to a source counts as well; what is missing counts with the directory where the way to it ends, so a
 * deleted source makes one build. A directory counts with its own change time: names that come and go. Do not list the file
 * itself, nor the directory that it is in, nor anything missing there: each build changes these.
 *
 * Else it is a run as cluster_coalesced() has them, on the file's own lock, which is that of cluster_file_put_contents(…,
 * LOCK_EX) and cluster_flock(): whoever comes meanwhile is served by the next one. Inside it looks once more, and then
 * $build is called and what it returns is written as cluster_file_put_contents() does, if the lock is still held. The file's
 * modification time is that at which the build began, by the file server's clock: what changes during the build makes it old.
 * All callers of one file give the same sources, and functions that make the same of them. $build reads its sources itself,
 * after it was called; what it has captured before is not read anew.
 *
 * Round trips when it is fresh: none; to an NFS server two, and one for each source, link and directory on the way to them.
 * When it is built: three (acquire, make sure, release).
 *
 * @param string $target as in cluster_file_put_contents(), but no mount point by itself, which is never written in place
 * @param callable $build called without arguments, once or not at all; returns the content as a string. false: it has failed,
 *     nothing is written, and whoever is next builds
 * @param array $sources paths (string, Stringable) of local files and directories, within open_basedir; else TypeError, an empty
 *     one or one with a NUL byte: ValueError. They need not exist. None: it is never fresh
 * @param float|null $timeout longest wait for the build's beginning or another one's end, as in cluster_lock(). 0: false when
 *     anybody is building it, so that the old file can be served meanwhile
 * @return bool false without a warning: the time is up, or $build has returned false. false with E_WARNING: it has returned
 *     something else, or writing failed, or the lock was lost before the rename, and the old file is untouched; the lock was
 *     lost during the rename, and the next call builds again; a source cannot be examined; the server cannot be reached; or
 *     waiting could only deadlock: inside a build of the same file, or when the request holds its lock shared, by an object or a
 *     stream. true with E_WARNING: the file is in place, but its directory could not be synced, or the server not be told.
 *     What $build throws comes through, and nothing is written
 */
function cluster_file_build(string $target, callable $build, array $sources = [], ?float $timeout = null): bool {}

/**
 * flock() for a cluster: the same arguments and the same results, but the wait is for a lock that all
 * nodes share, and what is read under it is what the file server has, not what this node has cached.
 *
 * The lock is named after the file's real path (see cluster_lock.path_map), so it excludes flock()
 * where that is intercepted (cluster_lock.intercept) and cluster_file_put_contents(..., LOCK_EX). What
 * stands behind it is chosen by cluster_lock.flock_mode: "gate" takes the kernel's lock as well, so
 * that processes without the extension are excluded, too; "replace" does without it.
 *
 * As with flock(), the lock belongs to the open file: two handles of one file exclude each other, also
 * in one process; a handle that has it already keeps it, or converts it between shared and exclusive,
 * which is not atomic. It ends with LOCK_UN, when the stream is closed or destroyed, and at the end of
 * the request. Its data is sent to the file server first, and what the server refuses is told by
 * false and E_WARNING.
 *
 * Unlike flock() it waits for cluster_lock.timeout at most. A wait that only another handle of this
 * request could end fails at once, with a warning. For anything that is not a regular file of a plain
 * stream it does what flock() does.
 *
 * Round trips to the server: one to lock, one to unlock. To an NFS server: two with "gate" (lock,
 * unlock), one with "replace" (attributes); and those that what was written needs.
 *
 * @param resource $stream an open stream; else TypeError
 * @param int $operation LOCK_SH, LOCK_EX or LOCK_UN, optionally | LOCK_NB: one try; else ValueError
 * @param int $would_block set to 1 when the lock is held by somebody else for longer than the wait
 * @return bool false: somebody else has it ($would_block is 1); or, with E_WARNING, a failure. LOCK_UN:
 *     true when it was held from beginning to end, and also when it was not held at all
 */
function cluster_flock($stream, int $operation, &$would_block = null): bool {}

/**
 * This node forgets what it knows about a path: afterwards stat(), filemtime(), file_exists() and their
 * kin tell what the file server knows. clearstatcache() clears PHP's memory only; an NFS client has its
 * own, which may be a minute old, and remembers as long that a file did not exist.
 *
 * Two round trips to the file server (the directory and the file), none to Redis.
 *
 * @param string $filename a path, of a file that need not exist; ValueError when it has a NUL byte
 */
function cluster_clearstatcache(string $filename): void {}

/**
 * The fencing token of a lock that this request holds by cluster_lock(): strictly increasing over all
 * holders of that name, on all nodes, also after Redis lost its data. No round trip.
 *
 * @param string $name 1 to 1024 bytes; else ValueError
 * @return int|null null: not held
 */
function cluster_lock_fence(string $name): ?int {}

/**
 * Who holds a lock and who waits for it. One round trip.
 *
 * @param string $name 1 to 1024 bytes; else ValueError
 * @return array|null null: nobody holds it, or (with E_WARNING) the server cannot be reached. Else
 *     array{name: string, mode: "exclusive"|"shared", fence: int, ttl: float, since: float,
 *     holders: list<array{node: string, pid: int, sapi: string, script: string, request_uri: string,
 *     since: float, fence: int, run: bool, function: string, file: string, line: int}>, waiters:
 *     list<array{node: string, pid: int, since: float, mode: string, run: bool, function: string, file:
 *     string, line: int}>, more_holders: int, more_waiters: int}; ttl in seconds, since in Unix time on the
 *     server's clock, request_uri without its query string; run: for cluster_coalesced(); function
 *     ("Class::method", "{closure}", "" outside of functions), file (of a path of more than 512 bytes the
 *     end, behind "…") and line of the code that asked, "", "" and 0 when it is not known
 *     (cluster_lock.report_call); holders by age, waiters in the order in which they will be served. Of
 *     more than 1,000 readers holders are those whose leases run longest, of more than 1,000 waiters
 *     waiters are the first: how many more there are is in more_holders and more_waiters, the dead among
 *     them included (of a quorum each server tells of so many)
 */
function cluster_lock_info(string $name): ?array {}

/**
 * All held locks whose names start with a prefix, sorted by name; of more than $limit the first by name.
 * Goes through all keys of the server's database, whatever $limit is: for people and monitoring, not for
 * programs' hot paths.
 *
 * @param string $prefix start of the names, as given to cluster_lock(); "": all
 * @param int $limit most entries to return, at least 1; else ValueError
 * @return array a list of what cluster_lock_info() returns, with no more than 100 holders and 100
 *     waiters of each lock; empty with E_WARNING when the server cannot be reached, or refuses
 */
function cluster_lock_list(string $prefix = "", int $limit = 1000): array {}

/**
 * An administrator removes a lock whoever holds it; the next waiter gets it, and the holder finds out
 * at its next call. One round trip.
 *
 * With $fence it is removed only from the holder who was seen, which the server decides in the same step:
 * between a look and a break, that one may have given it back, and another one have got it.
 *
 * @param string $name 1 to 1024 bytes; else ValueError
 * @param int|null $fence what cluster_lock_info() or cluster_lock_list() said in fence; null: whoever holds
 *     it. A shared lock is removed from all who hold it, and only if nobody else has joined them since;
 *     at least 1, else ValueError
 * @return bool false: nobody held it; or another one than meant does, and nothing was done
 *     (cluster_lock_info() tells who); or (with E_WARNING) the server cannot be reached
 */
function cluster_lock_break(string $name, ?int $fence = null): bool {}

/**
 * What every server that keeps locks says of itself, and whether locks work there: for health checks.
 * Four round trips to each, of commands that change nothing, and nine more by which a lock of a name of
 * its own is taken there, waited for, handed over and given back, with each command that locks need. A
 * server that does not answer costs a time-out (cluster_lock.connect_timeout, .command_timeout). Why it
 * cannot be asked, or locks do not work there (then there is a round_trip), is told in error: this never
 * fails. Hash slots of a cluster that no server has are told by an entry of their own, with an error.
 *
 * @return array a list of array{server: string, error: string|null, round_trip: float|null, clock_ahead:
 *     float|null, version: string|null, role: string|null, maxmemory: int|null, maxmemory_policy:
 *     string|null, used_memory: int|null, evicted_keys: int|null, append_only: bool|null, replicas:
 *     int|null, sampled_keys: int|null, foreign_keys: int|null, grace: string|null, grace_left:
 *     float|null}; null is what the server does not tell
 *     (from maxmemory to replicas: the ACL user needs +info); times in seconds, clock_ahead of this
 *     machine's clock; memory in bytes, maxmemory 0: no limit; foreign_keys: those of about a thousand
 *     keys of this database that do not start with cluster_lock.prefix, which means that it is shared
 *     with something that may be flushed; grace, with ?grace= in cluster_lock.dsn: "not begun", "runs"
 *     or "over", and grace_left in seconds. For local: empty, or an error
 */
function cluster_lock_servers(): array {}

/**
 * The state of the extension in this process. Neither connects nor creates anything.
 *
 * @return array array{version: string, backend: string, dsn: string, server_version: string|null,
 *     server_role: string|null, pool: array{open: int, idle: int, created: int, discarded: int,
 *     size: int}, hook: array{active: bool, intercept: string, intercept_exclude: string, flock_mode:
 *     string}, refused: list<array{setting: string, value: string, message: string}>, held:
 *     list<array{name: string, mode: string, fence: int, remaining: float}>, counters: array{acquired:
 *     int, contended: int, timed_out: int, lost: int, errors: int, wait_total: float, wait_max: float,
 *     renewals: int, runs: int, runs_failed: int, covered: int, writes: int, flocks: int, intercepted:
 *     int}}; the DSN without its credentials;
 *     hook.active: flock() is intercepted; refused: what php.ini or php-fpm's pool sets to a value that is
 *     not allowed, and that has another one therefore; times in seconds, counters since the process
 *     started: runs of cluster_coalesced() done here that are complete, runs_failed that were begun here and
 *     cover nobody, covered calls of it for which another one's run was enough; flocks of files locked, by
 *     cluster_flock() or intercepted, intercepted of the latter
 */
function cluster_lock_status(): array {}

/**
 * A lock as an object, for code that would rather have exceptions. Two objects of one name exclude
 * each other, even in one request, as does what cluster_lock() holds. Neither cloneable nor
 * serialisable.
 *
 * @strict-properties
 * @not-serializable
 */
final class ClusterLock
{
    /** The name given to the constructor. */
    public readonly string $name;

    /**
     * Acquires nothing yet. No round trip.
     *
     * @param string $name 1 to 1024 bytes; else ValueError
     * @param int $mode LOCK_EX or LOCK_SH; else ValueError
     * @param float|null $ttl the lease in seconds; null: cluster_lock.ttl at the time of acquire();
     *     at least 0.1, else ValueError
     */
    public function __construct(string $name, int $mode = LOCK_EX, ?float $ttl = null) {}

    /**
     * Acquires the lock. One round trip when it is free. While it is held: true at once, and nothing
     * is changed (refresh() extends).
     *
     * @param float|null $timeout as in cluster_lock()
     * @return bool false: the time is up
     * @throws ClusterLockLostException it was held and was lost meanwhile; it is not held any more,
     *     and the next call starts afresh
     * @throws ClusterLockConnectionException the server cannot be reached
     * @throws ClusterLockException the server refuses; or this request holds the name through another
     *     handle, so that the wait could only deadlock
     */
    public function acquire(?float $timeout = null): bool {}

    /**
     * Gives the lock back. One round trip. Afterwards it is not held, whatever is thrown.
     *
     * @throws ClusterLockLostException it was not ours throughout, and how it was lost
     * @throws ClusterLockConnectionException the server cannot be reached: the lock comes free when
     *     its lease runs out
     * @throws ClusterLockException it is not held: never acquired, or released already
     */
    public function release(): void {}

    /**
     * Sets the lease to $ttl from now. One round trip, so the answer is the server's.
     *
     * @param float|null $ttl seconds; null: the constructor's; at least 0.1, else ValueError
     * @throws ClusterLockLostException it is no longer ours
     * @throws ClusterLockConnectionException the server cannot be reached; the lease runs on
     * @throws ClusterLockException it is not held; or the server refuses
     */
    public function refresh(?float $ttl = null): void {}

    /** Whether the lock is held: this process's view of the lease, without a round trip. */
    public function isHeld(): bool {}

    /** Seconds of lease left; 0.0 when it is not held. No round trip. */
    public function remaining(): float {}

    /**
     * The fencing token; see cluster_lock_fence(). No round trip.
     *
     * @throws ClusterLockException it is not held
     */
    public function fence(): int {}

    /** Releases the lock if it is held; E_WARNING when it was lost. */
    public function __destruct() {}
}

/** Anything that went wrong with a lock. */
class ClusterLockException extends RuntimeException
{
}

/** The time is up: somebody else has the lock. Try again later. */
final class ClusterLockTimeoutException extends ClusterLockException
{
}

/** The lock was ours and no longer is: what it protected may have been touched by others. */
final class ClusterLockLostException extends ClusterLockException
{
    private mixed $result = null;

    /**
     * What the callback of cluster_synchronized() returned before the loss was found; null where there was none. No round
     * trip.
     */
    public function getResult(): mixed {}
}

/** The server cannot be reached, and no other has taken its place in time. */
final class ClusterLockConnectionException extends ClusterLockException
{
}
