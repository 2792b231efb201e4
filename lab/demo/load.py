#!/usr/bin/env python3
"""Drives the demo: administrators who save, visitors who read, one way after the other, and one table at the end.

    lab/demo/load.py http://127.0.0.1:8080 --seconds 5 --workers 10 --table table.txt

Every save sets the accent colour of a page of its own, so each one can be looked for in the stylesheet that is
there at the end: one that is not has been lost, whatever the server answered. The savers' timetable is the same in
all five ways. Exit code: 0; 1 when cluster_lock lost a save, answered before it was published, let a torn read
through or answered with an error; 2 when the demo itself does not run.
"""

import argparse
import hashlib
import http.client
import json
import random
import re
import sys
import threading
import time
import traceback
from urllib.parse import quote, urlsplit

WAYS = [
    ("1-unlocked", "1  file_put_contents, no lock"),
    ("2-flock", "2  fopen('w') + flock"),
    ("3-redis-snippet", "3  Redis SET NX EX 10 + DEL"),
    ("4-cluster-lock", "4  cluster_lock"),
    ("5-cluster-file-build", "5  cluster_file_build"),
]
OURS = ("4-cluster-lock", "5-cluster-file-build")
NODES = ("node-a", "node-b")
END = re.compile(rb"/\* end version=(\d+) bytes=(\d+) sha256=([0-9a-f]{64}) \*/\n\Z")
ACCENT = re.compile(rb"--page-(\w+)--accent:(#[0-9a-f]{6});")


class Client:
    """One kept-alive connection."""

    def __init__(self, address):
        self.address = address
        self.connection = None

    def request(self, method, path):
        """Returns status and body; OSError or HTTPException when the answer breaks off."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            self.connection.request(method, path)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def whole(css):
    """Whether a stylesheet is complete: end marker there, length and checksum right."""
    end = END.search(css)
    return bool(
        end
        and int(end[2]) == end.start()
        and end[3].decode() == hashlib.sha256(css[: end.start()]).hexdigest()
    )


def thread(work, *args):
    """A thread that does not keep the program alive when it is interrupted."""
    return threading.Thread(target=work, args=args, daemon=True)


class Run:
    """One way: its savers, its readers, and what became of the saves."""

    def __init__(self, way, title, args):
        self.way, self.title, self.args = way, title, args
        self.guard = threading.Lock()
        self.stop = threading.Event()
        self.asked = {}  # page -> colour
        self.stored = set()  # pages whose save was answered with "stored"
        self.early = 0  # saves that were answered with "stored" and not in the stylesheet then
        self.skipped = 0
        self.errors = []
        self.times = []  # of the saves that were stored, in milliseconds
        self.reads = 0
        self.torn = 0
        self.example = None  # what a torn read looked like
        self.queue = None  # the longest queue seen in cluster_lock_list()

    # -- the three kinds of visitors ------------------------------------------------------------------------

    def save(self, client, page, colour):
        with self.guard:
            self.asked[page] = colour
        began = time.monotonic()
        try:
            status, body = client.request(
                "POST", f"/save?way={self.way}&page={page}&colour={quote(colour)}"
            )
            answer = json.loads(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, answer = 0, {"error": repr(error)}
        took = (time.monotonic() - began) * 1000
        published = status != 200 or self.published(client, page, colour)
        with self.guard:
            self.early += not published
            if status == 200:
                self.stored.add(page)
                self.times.append(took)
            elif status == 409:
                self.skipped += 1
            else:
                self.errors.append(f"HTTP {status}: {answer}")

    def published(self, client, page, colour):
        """Whether the administrator, looking at what was saved, finds it. Half a stylesheet says nothing."""
        try:
            _, css = client.request("GET", f"/{self.way}/style.css")
        except (OSError, http.client.HTTPException):
            return True
        return not whole(css) or dict(ACCENT.findall(css)).get(page.encode()) == colour.encode()

    def saver(self, number, began):
        client = Client(self.args.address)
        chance = random.Random(number)
        due = began
        saves = 0
        while True:
            due += chance.expovariate(self.args.rate)
            if due > began + self.args.seconds:
                break
            self.stop.wait(max(0.0, due - time.monotonic()))
            saves += 1
            self.save(client, f"{number}x{saves}", f"#{chance.randrange(1 << 24):06x}")
        client.close()

    def reader(self):
        client = Client(self.args.address)
        # Rested a little between two reads: the machine should be busy with PHP, not with its visitors.
        while not self.stop.wait(0.002):
            try:
                status, css = client.request("GET", f"/{self.way}/style.css")
                complete, seen = status == 200 and whole(css), f"HTTP {status}, {len(css)} bytes"
            except http.client.IncompleteRead as error:
                complete, seen = False, f"broke off after {len(error.partial)} bytes"
            except (OSError, http.client.HTTPException) as error:
                complete, seen = False, f"broke off: {error!r}"
            with self.guard:
                self.reads += 1
                if not complete:
                    self.torn += 1
                    self.example = self.example or seen
        client.close()

    def watcher(self):
        """Asks node B who holds and awaits what, as an administrator would, and keeps the longest queue."""
        client = Client(self.args.address)
        while not self.stop.wait(0.05):
            try:
                locks = json.loads(client.request("GET", "/node-b/status?locks")[1])["locks"]
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                continue
            for lock in locks or []:
                if self.queue is None or len(lock["waiters"]) > len(self.queue["waiters"]):
                    self.queue = dict(lock, seen=time.time())
        client.close()

    # -- the run --------------------------------------------------------------------------------------------

    def go(self):
        first = Client(self.args.address)
        self.save(first, "home", "#28303d")
        if self.errors:
            print(f"   {self.way}: the first save failed: {self.errors[0]}", file=sys.stderr)
            sys.exit(2)
        # Or nginx would, if it lay idle for as long as the savers of a slow machine take.
        first.close()
        began = time.monotonic()
        savers = [thread(self.saver, n, began) for n in range(self.args.savers)]
        others = [thread(self.reader) for _ in range(self.args.readers)]
        if self.way in OURS:
            others.append(thread(self.watcher))
        for each in savers + others:
            each.start()
        for each in savers:
            while each.is_alive():
                each.join(timeout=2.0)
                if each.is_alive():
                    self.progress(began)
        self.stop.set()
        for each in others:
            each.join()
        self.progress(began)

        _, css = first.request("GET", f"/{self.way}/style.css")
        self.compiles = sum(
            json.loads(first.request("GET", f"/{node}/status?compiles={self.way}")[1])["compiles"] for node in NODES
        )
        first.close()
        there = {page.decode(): colour.decode() for page, colour in ACCENT.findall(css)}
        survived = {page for page, colour in self.asked.items() if there.get(page) == colour}
        self.overwritten = len(self.stored - survived)
        self.lost = len(self.asked) - len(survived)
        self.broken = not whole(css)
        self.version = int(END.search(css)[1]) if not self.broken else None

    def wrong(self):
        """Whether one of our ways did not keep its promise."""
        # The stylesheet's version is a second witness: it went up once for each compile that was published.
        published = len(self.stored) if self.way == "4-cluster-lock" else self.compiles
        return bool(self.lost or self.early or self.torn or self.errors or self.version != published)

    def progress(self, began):
        with self.guard:
            print(
                f"   {time.monotonic() - began:4.1f} s: {len(self.asked)} saves asked, {len(self.stored)} stored, "
                f"{self.skipped} turned away, {self.reads} reads, {self.torn} torn",
                flush=True,
            )


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def table(runs):
    head = f"{'':28} {'saves':>6} {'saves':>6} {'':>8} {'updates':>8} {'':>6} {'torn':>6}   {'a save takes, ms':>21}\n"
    head += f"{'way':28} {'asked':>6} {'done':>6} {'compiles':>8} {'lost':>8} {'reads':>6} {'reads':>6}   "
    head += f"{'p50':>7}{'p99':>7}{'max':>7}\n"
    lines = [head + "-" * (len(head) // 2)]
    for run in runs:
        shown = "".join(f"{quantile(run.times, q):7.0f}" for q in (0.5, 0.99, 1.0))
        lines.append(
            f"{run.title:28} {len(run.asked):6} {len(run.stored):6} {run.compiles:8} {run.lost:8} "
            f"{run.reads:6} {run.torn:6}   {shown}"
        )
    return "\n".join(lines)


def explain(runs):
    """One line per way: what its numbers come from."""
    for run in runs:
        parts = []
        if run.skipped:
            parts.append(f"{run.skipped} saves found the lock taken and were not stored")
        if run.overwritten:
            parts.append(f'{run.overwritten} saves were answered with "stored" and are gone')
        if run.early:
            parts.append(f'{run.early} saves were not in the stylesheet when they were answered with "stored"')
        if run.torn:
            parts.append(f"visitors got half a stylesheet {run.torn} times (the first: {run.example})")
        if run.broken:
            parts.append("the stylesheet is still broken at the end")
        if run.errors:
            parts.append(f"{len(run.errors)} errors, the first: {run.errors[0]}")
        if not parts and run.way not in OURS:
            parts.append("nothing happened to go wrong this time; run it again, or with more --savers")
        if not parts:
            parts.append("every save is in the stylesheet, every read was whole")
            if run.compiles < len(run.stored):
                parts.append(f"{run.compiles} compiles did for {len(run.stored)} saves")
        yield f"{run.title[0]}: " + "; ".join(parts)


def show_queue(lock):
    if lock is None:
        print("   (the lock was free whenever it was looked at)")
        return

    def age(entry):
        return f"{max(0.0, lock['seen'] - entry['since']) * 1000:.0f} ms"

    def call(entry):
        return f"{entry['function']}() at {'/'.join(entry['file'].split('/')[-2:])}:{entry['line']}"

    held = ", ".join(f"{h['node']} pid {h['pid']} for {age(h)}, {call(h)}" for h in lock["holders"])
    print(f"   lock \"{lock['name']}\", fence {lock['fence']}, held by {held}")
    for place, waiter in enumerate(lock["waiters"], 1):
        run = " for a run" if waiter["run"] else ""
        print(f"   {place:3}. {waiter['node']} pid {waiter['pid']}, waiting{run} for {age(waiter)}, {call(waiter)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way")
    parser.add_argument("--savers", type=int, default=12)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1.5, help="saves a second and saver")
    parser.add_argument("--workers", type=int, required=True, help="php-fpm workers of a node")
    parser.add_argument("--ways", default="12345", help="which ways, by number")
    parser.add_argument("--table", help="file to leave the table in")
    args = parser.parse_args()
    url = urlsplit(args.url)
    args.address = (url.hostname, url.port)

    print(
        f"   {args.savers} administrators press Save about {args.rate:g} times a second each, "
        f"{args.readers} visitors read; {args.seconds:g} s for each way"
    )
    runs = []
    for way, title in WAYS:
        if title[0] not in args.ways:
            continue
        print(f"\n   Way {title}", flush=True)
        run = Run(way, title, args)
        run.go()
        runs.append(run)
    print()
    return report(runs, args)


def node_counters(args, node):
    """cluster_lock_status() counts per process: ask until every worker of the node has answered, then add up."""
    client = Client(args.address)
    workers = {}
    for _ in range(50 * args.workers):
        answer = json.loads(client.request("GET", f"/{node}/status?status")[1])
        workers[answer["pid"]] = answer["status"]
        if len(workers) == args.workers:
            break
    client.close()
    total = {}
    for status in workers.values():
        for name, value in status["counters"].items():
            total[name] = max(total.get(name, 0), value) if "max" in name else total.get(name, 0) + value
    return workers, total


def show_node(args, node):
    workers, total = node_counters(args, node)
    one = next(iter(workers.values()))
    server = " ".join(str(one[k]) for k in ("backend", "dsn") if one.get(k))
    print(f"   {node}: {len(workers)} php-fpm workers, {server}")
    for name, value in total.items():
        print(f"   {name:12} {value:8.3f} s" if isinstance(value, float) else f"   {name:12} {value:8}")


def report(runs, args):
    ours = [run for run in runs if run.way in OURS]
    for run in ours:
        print(f"== Who waited in way {run.title[0]}: the longest queue that cluster_lock_list() showed on node-b")
        show_queue(run.queue)
        print()
    if ours:
        ways = " and ".join(run.title[0] for run in ours)
        print(f"== What node-a counted in way {ways}: cluster_lock_status(), all its workers added up")
        show_node(args, "node-a")

    print("\n== Result")
    text = table(runs) + "\n\n" + "\n".join(explain(runs))
    print(text, flush=True)
    if args.table:
        with open(args.table, "w", encoding="utf-8") as file:
            file.write(text + "\n")

    return 1 if any(run.wrong() for run in ours) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # the demo itself is at fault then, not the lock
        traceback.print_exc()
        sys.exit(2)
