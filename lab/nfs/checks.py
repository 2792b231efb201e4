"""What has to hold. Counts, orders and exclusion hold on every machine, however busy; what is a matter of pace (bounds
that the protocols guarantee, ratios within one run) holds on one that does nothing else, so the short run, which
script/test is part of, only prints it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

# Where a waiter polls: NFS 4.0 cannot call back, and 4.1 servers need not (AWS EFS does not).
POLLED = ("4.0", "4.1-nonotify")
OURS = ("gate", "replace", "intercept-gate", "intercept-replace", "intercept-prefix")

HANDOFF_RATIO = 50
LOCKS_RATIO = 2
SLOWER_AT_MOST = 2
LONGEST_WAIT_MS = 1000
SAVES_RATIO = 20
BUILD_RATIO = 2
# Ways to save a theme in which nobody sees half of it; in these, no save is lost either.
KEEPING = ("cluster_lock", "cluster_file_build")
WHOLE = ("cluster_file_put_contents", *KEEPING)


@dataclass
class Check:
    name: str
    value: object
    want: str
    ok: bool
    pace: bool = False

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.value} (want {self.want})"

    def figure(self) -> str:
        return f"---- {self.name}: {self.value} (on a machine that does nothing else: {self.want})"


def at_least(name: str, value: int, limit: int) -> Check:
    return Check(name, value, f">= {limit}", value >= limit)


def pace_at_least(name: str, value: float, limit: float) -> Check:
    return Check(name, round(value, 2), f">= {limit}", value >= limit, pace=True)


def pace_below(name: str, value: float, limit: float) -> Check:
    return Check(name, round(value, 2), f"< {limit}", value < limit, pace=True)


def none(name: str, found: list[str], cells: int) -> Check:
    return Check(name, f"{', '.join(found) or 0} ({cells} cells)", "0", not found)


def cells(results: list[dict], job: str, *keys: str) -> dict:
    """The results of a job by these keys."""
    return {tuple(result[key] for key in keys): result for result in results if result["job"] == job}


def handoff(results: list[dict]) -> list[Check]:
    found, done = cells(results, "handoff", "version", "hold_s", "variant"), []
    for (version, hold, variant), flock in found.items():
        if variant != "flock" or version not in POLLED:
            continue
        for ours in OURS:
            if cell := found.get((version, hold, ours)):
                ratio = flock["p50_ms"] / cell["p50_ms"]
                name = f"hand-off {version}, held {hold} s: flock / {ours}, p50"
                done.append(pace_at_least(name, ratio, HANDOFF_RATIO))
    return done


def contend(results: list[dict]) -> list[Check]:
    found, done = cells(results, "contend", "version", "variant"), []
    if not found:
        return []
    overlaps = [f"{version} {variant}" for (version, variant), cell in found.items() if cell["overlaps"]]
    done.append(none("contention: two had the lock at once", overlaps, len(found)))
    for version in {version for version, _ in found}:
        flock = found.get((version, "flock"))
        ours = {variant: found[version, variant] for variant in OURS if (version, variant) in found}
        if not flock or not ours:
            continue
        if version in POLLED:
            done.append(pace_at_least(f"contention {version}: flock's longest wait, ms", flock["wait_max_ms"],
                                      LONGEST_WAIT_MS))
            done.append(pace_below(f"contention {version}: our longest wait, ms",
                                   max(cell["wait_max_ms"] for cell in ours.values()), LONGEST_WAIT_MS))
        slowest = min(cell["locks_per_s"] for cell in ours.values())
        done.append(pace_at_least(f"contention {version}: locks/s, ours / flock's", slowest / max(0.1, flock["locks_per_s"]),
                                  LOCKS_RATIO if version in POLLED else 1 / SLOWER_AT_MOST))
        # A process that a busy machine forgets for a while asks less often.
        served = min(cell["least_served"] / max(1, cell["most_served"]) for cell in ours.values())
        done.append(pace_at_least(f"contention {version}: ours, least / most served", served, 0.8))
    return done


def coherence(results: list[dict]) -> list[Check]:
    by_version, done = defaultdict(list), []
    for result in results:
        if result["job"] == "coherence":
            by_version[result["version"]].append(result)
    for version, found in by_version.items():
        ours = [cell for cell in found if cell["variant"] in OURS]

        def where(what: str) -> list[str]:
            return [f"{cell['idiom']} {cell['variant']} {cell[what]} of {cell['expected']}" for cell in ours if cell[what]]

        updates = sum(cell["expected"] for cell in ours)
        done.append(none(f"coherence {version}: of our {updates} updates lost", where("lost"), len(ours)))
        done.append(none(f"coherence {version}: our torn, short or old reads", where("wrong_reads"), len(ours)))
        naive = [cell["lost"] for cell in found if cell["variant"] == "naive" and cell["idiom"] == "kept-open"]
        if naive:
            done.append(at_least(f"coherence {version}: lost by a lock that knows no files (the test can fail)",
                                 min(naive), 1))
    return done


def stale(results: list[dict]) -> list[Check]:
    found = [result for result in results if result["job"] == "stale"]
    if not found:
        return []
    asked = [cell for cell in found if cell["way"] == "cluster_clearstatcache"]
    late = [f"{cell['version']} {cell['change']} {cell['view']}" for cell in asked if not cell["at_once"]]
    plain = sum(1 for cell in found if cell["way"] == "clearstatcache" and cell["view"] == "stat" and not cell["at_once"])
    return [none("cluster_clearstatcache(): not fresh at once", late, len(asked)),
            at_least("clearstatcache(): stale all the same (the test can fail)", plain, 1)]


def wordpress(results: list[dict]) -> list[Check]:
    found, done = cells(results, "wordpress", "variant"), []
    for (variant,), cell in found.items():
        name = f"insert_with_markers(), {variant}: blocks lost of {cell['expected']}"
        if variant == "none":
            done.append(at_least(f"{name} (the test can fail)", cell["lost"], 1))
        else:
            done.append(Check(name, cell["lost"], "0", cell["lost"] == 0 and cell["head_kept"]))
    return done


def exclusion(results: list[dict]) -> list[Check]:
    found = [result for result in results if result["job"] == "exclusion"]
    if not found:
        return []
    broken = [f"{cell['version']} {cell['mode']}: {cell['asker']} beside {cell['holder']}" for cell in found
              if not cell["excluded"]]
    return [none("exclusion across nodes and ways to lock: broken", broken, len(found))]


def engaged(results: list[dict]) -> list[Check]:
    found = [result for result in results if "not_ours" in result]
    passed_by = [f"{result['job']} {result['version']} {result['variant']} {result['not_ours']}" for result in found
                 if result["not_ours"]]
    return [none("locks that passed the cluster lock by", passed_by, len(found))] if found else []


def doctor(results: list[dict]) -> list[Check]:
    found = [result for result in results if result["job"] == "doctor"]
    if not found:
        return []
    runs = {which: [cell for cell in found if cell["run"] == which] for which in ("first", "second", "crossing", "cut")}
    blind = [cell["node"] for cell in runs["first"] if cell["status"] != 1 or cell["green"] or not cell["named"]]
    other = [cell["node"] for cell in runs["first"] if not cell["same_ini"]]
    ill = [f"{cell['node']} {', '.join(cell['bad']) or cell['ini']}" for cell in runs["second"]
           if cell["status"] != 0 or not cell["green"] or cell["ini"]]
    broken = [f"{cell['version']} {cell['holder']} holds {cell['locks']}" for cell in runs["crossing"]
              if not cell["excluded"] or not cell["ours"]]
    silent = [cell["node"] for cell in runs["cut"] if cell["status"] != 1
              or not {"mount.silent", "server.reachable"} <= {line.split()[0] for line in cell["bad"]}]
    return [none("doctor: a first run that did not name the mounts and end with 1", blind, len(runs["first"])),
            none("doctor: --ini and --json did not agree", other, len(runs["first"])),
            none("doctor: not green with the php.ini it had printed", ill, len(runs["second"])),
            at_least("doctor: mounts compared between the nodes", sum(cell["compared"] for cell in runs["second"]), 4),
            none("doctor: PHP as it was configured did not exclude across nodes", broken, len(runs["crossing"])),
            none("doctor: did not say that the servers do not answer", silent, len(runs["cut"]))]


def fresh(results: list[dict]) -> list[Check]:
    done = []
    for (version, variant), cell in cells(results, "fresh", "version", "variant").items():
        if variant == "none":
            done.append(at_least(f"builds {version}, by modification times: an old file was called fresh (the test can fail)",
                                 cell["old"], 1))
            continue
        done.append(Check(f"cluster_file_build() {version}, {cell['calls']} calls, {cell['changes']} changes of sources: an old "
                          "file was called fresh", f"{cell['old']} {cell['example']}".strip(), "0", cell["old"] == 0))
        done.append(at_least(f"cluster_file_build() {version}: changes during a build", cell["during_builds"], 1))
        done.append(at_least(f"cluster_file_build() {version}: calls that did not build", cell["calls"] - cell["builds"], 1))
    return done


def theme(results: list[dict]) -> list[Check]:
    found, done = cells(results, "theme", "version", "way"), []
    for (version, way), cell in found.items():
        if way not in WHOLE:
            continue
        name = f"theme {version}, {way}"
        done.append(Check(f"{name}: torn reads of {cell['reads']}", f"{cell['torn']} {cell['torn_example']}".strip(), "0",
                          cell["torn"] == 0))
        done.append(Check(f"{name}: saves that failed", f"{cell['errors']} {cell['error']}".strip(), "0", cell["errors"] == 0))
        if way in KEEPING:
            done.append(Check(f"{name}: saves lost of {cell['stored']}", cell["lost"], "0", cell["lost"] == 0))
        done.append(pace_below(f"{name}: reads older than the last save by a second", cell["old"], 1))
    for version in {version for version, _ in found}:
        def p99(way: str, version: str = version) -> float | None:
            cell = found.get((version, way))
            return cell and cell["p99_ms"]

        plain = p99("fopen-flock")
        for way in ("fopen-flock-intercepted", "cluster_file_put_contents"):
            if plain and p99(way) and version in POLLED:
                done.append(pace_at_least(f"theme {version}: p99 of saves, fopen-flock / {way}", plain / p99(way), SAVES_RATIO))
        if p99("cluster_lock") and p99("cluster_file_build"):
            done.append(pace_at_least(f"theme {version}: p99 of saves, cluster_lock / cluster_file_build",
                                      p99("cluster_lock") / p99("cluster_file_build"), BUILD_RATIO))
    return done


def cutoff(results: list[dict]) -> list[Check]:
    done = []
    for (version, variant), cell in cells(results, "cutoff", "version", "variant").items():
        name = f"holder cut off, {version} {variant}"
        done.append(pace_below(f"{name}: while an idle node is, a lock takes ms", cell["idle_cut_lock_ms"], 1000))
        if variant == "flock":
            continue
        done.append(Check(f"{name}: unlock tells the holder when it is back", cell["holder_told"], "True", cell["holder_told"]))
        if variant == "replace":
            # The lease, and once more for a machine that is busy.
            done.append(pace_below(f"{name}: the other waits, s", cell["waited_s"], 2 * cell["ttl_s"]))
        else:
            # A waiter polls while the server holds on to the lost node's lock: three leases are plenty.
            done.append(pace_below(f"{name}: the other waits, s", cell["waited_s"], 3 * cell["nfs_lease_s"] + cell["ttl_s"]))
    return done


def run(results: list[dict]) -> list[Check]:
    parts = (contend, handoff, coherence, stale, wordpress, exclusion, doctor, cutoff, fresh, theme, engaged)
    return [check for part in parts for check in part(results)]
