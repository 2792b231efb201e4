<?php

// Forks while locks are held and the renewal thread is at work: php forks.php CHILDREN

declare(strict_types=1);

require __DIR__ . '/check.php';

const AT_ONCE = 8;
// Renewed every 0.3 s.
const LEASE = 0.9;

function child(int $number): void
{
    check(cluster_lock_fence('parent') === null, 'a child holds nothing of its parent');
    check(cluster_lock("child $number", 10, LOCK_EX, LEASE), 'a child locks');
    check(cluster_lock('shared by children', 60), 'a child waits for its turn');
    check(cluster_unlock('shared by children'), 'and unlocks');
    switch ($number % 4) {
        case 0:
            check(cluster_unlock("child $number"), 'its lock was its own');
            exit(0);
        case 1:
            exit(0);
        case 2:
            // A grandchild, and so a third engine.
            $pid = pcntl_fork();
            if ($pid === 0) {
                check(cluster_lock("grandchild $number", 10) && cluster_unlock("grandchild $number"), 'a grandchild locks');
                exit(0);
            }
            pcntl_waitpid($pid, $status);
            exit($status === 0 ? 0 : 1);
        default:
            // Nothing of PHP's or ours runs any more: the lease has to run out.
            posix_kill(posix_getpid(), SIGKILL);
    }
}

$children = (int) $argv[1];
check(cluster_lock('parent', 0, LOCK_EX, LEASE), 'the parent locks');
$fence = cluster_lock_fence('parent');
$early = null;
$start = hrtime(true);
$seconds = static fn () => (hrtime(true) - $start) / 1e9;
// Until the lease was renewed several times, however fast the machine is.
for ($started = $ended = $running = 0; $running > 0 || $started < $children || $seconds() < 3 * LEASE;) {
    while ($running < AT_ONCE && ($started < $children || $seconds() < 3 * LEASE)) {
        $pid = pcntl_fork();
        check($pid >= 0, 'a process is to be had');
        if ($pid === 0) {
            child($started);
        }
        $started++;
        $running++;
        // The parent's own calls between forks share its connections with no child.
        check(cluster_lock("own $started", 10) && cluster_unlock("own $started"), 'the parent goes on');
    }
    check(pcntl_wait($status) > 0, 'a child ends');
    $killed = pcntl_wifsignaled($status) && pcntl_wtermsig($status) === SIGKILL;
    check($status === 0 || $killed, "a child failed ($status)");
    $running--;
    $ended++;
    // The renewal has opened a connection of its own by then.
    if ($early === null && $ended >= $children / 10 && $seconds() > LEASE) {
        $early = size_of_process();
    }
}
printf("%d children in %.0f s\n", $ended, $seconds());
check_growth($early, size_of_process(), 1.05);
check(cluster_lock_fence('parent') === $fence && cluster_unlock('parent'), 'the parent held its lock throughout');
