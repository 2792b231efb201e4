"""Cut off: how long does B wait for a lock while A, which holds it, is cut off the network; what is A told when it is
back; and does a node that is cut off without holding anything disturb the other?

Arguments: versions=4.0,4.1 variants=flock,gate,replace. The NFS lease is the guest's (15 s in the plan).
"""

from __future__ import annotations

from pathlib import Path

from lab import Php, arguments, cut_off, mounted, now, path, reconnect, record

TTL = 4  # seconds, the lease in Redis
PATIENCE = 90


def process(node: str, version: str, variant: str) -> Php:
    started = Php(node, "cutoff", variant, ini={"cluster_lock.ttl": TTL}, path=path(node, version, f"cutoff.{variant}"))
    started.hear()
    return started


def ask(php: Php, what: str, timeout: float = PATIENCE) -> dict:
    php.tell(what)
    return php.hear(timeout)


def main() -> None:
    given = arguments()
    variants = given["variants"].split(",")
    lease = int(Path("/proc/fs/nfsd/nfsv4leasetime").read_text())
    for version in given["versions"].split(","):
        with mounted(version):
            holders = {variant: process("a", version, variant) for variant in variants}
            waiters = {variant: process("b", version, variant) for variant in variants}

            # The node that holds nothing, not even an open file: then the server need not ask it for anything.
            cut_off("b")
            for variant in variants:
                ask(holders[variant], "open")
            idle = {variant: ask(holders[variant], "lock")["ms"] for variant in variants}
            reconnect("b")

            # The node that holds the locks. The waiter has the file open already: what is measured is the lock alone.
            for variant in variants:
                ask(waiters[variant], "open")
            for variant in variants:
                ask(holders[variant], "write")
            cut_off("a")
            cut = now()
            for variant in variants:
                waiters[variant].tell("lock")
            # In order of arrival: whoever answered first is read first, the others' answers wait in their pipes.
            got = {variant: waiters[variant].hear(PATIENCE) for variant in variants}
            for variant in variants:
                ask(waiters[variant], "write")
            reconnect("a")
            for variant in variants:
                answers = {what: ask(holders[variant], what) for what in ("write", "fflush", "fsync", "unlock", "close")}
                said = {what: answer["result"] for what, answer in answers.items()}
                warnings = {what: answer["warning"] for what, answer in answers.items() if answer["warning"]}
                told = not answers["unlock"]["result"] and bool(answers["unlock"]["warning"])
                record("cutoff", version=version, variant=variant, nfs_lease_s=lease, ttl_s=TTL,
                       idle_cut_lock_ms=round(idle[variant], 1), waited_s=round((got[variant]["at"] - cut) / 1e9, 1),
                       got=got[variant]["result"], holder_told=told, said=said, warnings=warnings,
                       waiter_warning=got[variant]["warning"])
            for variant in variants:
                for what in ("unlock", "close"):
                    ask(waiters[variant], what)
                waiters[variant].finish()
                holders[variant].finish()


main()
