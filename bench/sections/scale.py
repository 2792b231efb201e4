"""(scale) What grows with what: locks held, waiters, processes, shards. Not part of a run of everything: it takes minutes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import time
from pathlib import Path

from harness import stats
from harness.run import OURS, Run, rotated, stopping
from harness.worker import count_together, lock_worker
from stand.servers import DelayProxy, Redis, before_exec, free_port, stop, wait_for

from .uncontended import CLIENT_CPU, SERVER_CPU

#: How far away the server is, round trip.
DISTANCES_MS = (0, 1, 50)
PEERS = ("symfony", "phpredis_set")
SHARDS = (1, 2, 3)
SHARD_PROCESSES = 12
SLOTS = 16384
#: Scripts that stand the server for less are not counted: noting each would cost more than it.
SLOWLOG_US = 100
#: Hand-overs of one crowd that are timed.
HAND_OVERS = 200
#: A waiter asks again after FAR seconds at most, and after LESS_OFTEN for each before it (core/src/store/scripts/acquire.lua).
FAR, LESS_OFTEN = 35, 0.03


def measure(run: Run) -> None:
    allow_files()
    run.results["scale"] = {"held": held(run), "waiters": waiters(run), "processes": processes(run),
                            "shards": shards(run)}


def allow_files() -> None:
    """A waiter is a connection, here and at the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Crowd:
    """The program core/examples/crowd.rs."""

    def __init__(self, run: Run, *arguments: str, cpu: int | None = CLIENT_CPU) -> None:
        self.process = subprocess.Popen([str(run.crowd), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, preexec_fn=lambda: before_exec(cpu))
        self.read()

    def read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"crowd ended with status {self.process.wait()}")
        return line.rstrip("\n")

    def ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.stdin.close()
        stop(self.process)


def server_cpu(redis: Redis) -> float:
    """CPU seconds of the server so far."""
    info = redis.info("cpu")
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])


def command(redis: Redis, *words: str) -> str:
    return subprocess.run(["redis-cli", "-p", str(redis.port), *words], capture_output=True, text=True,
                          check=True).stdout.strip()


def watch(redis: Redis, crowd: Crowd, seconds: float) -> dict:
    """What a crowd that only stays costs, as a share of one CPU."""
    server, client, began = server_cpu(redis), crowd.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {"server_cpu": round((server_cpu(redis) - server) / took, 4),
            "client_cpu": round((crowd.cpu_seconds() - client) / took, 4)}


def held(run: Run) -> dict:
    """One process holds so many locks: what their renewals cost, and whether one is lost."""
    seconds = 5 if run.quick else 12  # a lease is 10 s, and renewed every 3.3
    out: dict = {}
    for distance in DISTANCES_MS:
        for number in (1, 100, 10_000) if run.quick else (1, 10, 100, 1_000, 10_000):
            run.progress(f"scale: {number} locks held, {distance} ms away")
            with stopping([]) as things:
                redis = Redis(run.tmp, f"redis-held-{distance}-{number}", CLIENT_CPU if distance else SERVER_CPU)
                things.append(redis)
                address = f"redis://127.0.0.1:{redis.port}"
                if distance:
                    proxy = DelayProxy(run.delay_proxy, redis.port, SERVER_CPU)
                    things.append(proxy)
                    proxy.set_delay(distance * 500_000)
                    address = proxy.tcp.replace("tcp", "redis")
                crowd = Crowd(run, "hold", address, str(number))
                things.append(crowd)
                before = int(crowd.ask("").split()[3])
                point = watch(redis, crowd, seconds)
                _, lost, _, renewals = crowd.ask("").split()
                point |= {"lost": int(lost), "renewals_per_s": round((int(renewals) - before) / seconds, 1)}
                out.setdefault(str(distance), {})[str(number)] = point
    return out


def waiters(run: Run) -> dict:
    """So many wait for one lock: what that costs the server, its longest script, and the hand-over."""
    out: dict = {}
    for number in (1, 100, 10_000) if run.quick else (1, 10, 100, 1_000, 10_000):
        run.progress(f"scale: {number} waiters")
        with stopping([]) as things:
            redis = Redis(run.tmp, f"redis-wait-{number}", SERVER_CPU)
            things.append(redis)
            undisturbed(run, redis)
            # Each waiter has a connection; and a server takes no more clients than it may open files.
            command(redis, "CONFIG", "SET", "maxclients", str(number + 1000))
            command(redis, "CONFIG", "SET", "slowlog-log-slower-than", str(SLOWLOG_US))
            command(redis, "CONFIG", "SET", "slowlog-max-len", "10000")
            crowd = Crowd(run, "wait", f"redis://127.0.0.1:{redis.port}", str(number))
            things.append(crowd)
            deadline = time.monotonic() + 60
            while int(command(redis, "ZCARD", "cluster_lock:{crowd}:q")) < number:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not all of {number} waiters came to wait")
                time.sleep(0.1)
            # Who came together asks together: each must have asked once, and each once more be counted.
            everybody = min(FAR, 1 + number * LESS_OFTEN)
            if not run.quick:
                time.sleep(everybody)
            point = watch(redis, crowd, 4 if run.quick else max(10, everybody))
            took = [int(one) for one in crowd.ask(str(min(number, HAND_OVERS))).split()]
            slow = command(redis, "--json", "SLOWLOG", "GET", "-1")
            point["hand_over"] = stats.summary_us(took)
            point["longest_script_us"] = longest(slow)
        point["connections_cpu"] = connections(run, number)
        out[str(number)] = point
    return out


def connections(run: Run, number: int) -> float:
    """What so many connections cost the server that sleep like a waiter's, when nobody wants a lock: share of one CPU."""
    with stopping([]) as things:
        redis = Redis(run.tmp, f"redis-sleep-{number}", SERVER_CPU)
        things.append(redis)
        undisturbed(run, redis)
        command(redis, "CONFIG", "SET", "maxclients", str(number + 1000))
        with contextlib.ExitStack() as sleepers:
            for i in range(number):
                sleeper = sleepers.enter_context(socket.create_connection(("127.0.0.1", redis.port)))
                sleeper.sendall(f"BLPOP sleeper:{i} 0\r\n".encode())

            def asleep() -> None:
                if f"blocked_clients:{number}\n" not in command(redis, "INFO", "clients"):
                    raise OSError

            wait_for("the sleepers", redis.process, asleep)
            before, began = server_cpu(redis), time.monotonic()
            time.sleep(4 if run.quick else 15)
            return round((server_cpu(redis) - before) / (time.monotonic() - began), 4)


def undisturbed(run: Run, redis: Redis) -> None:
    """Nobody takes the CPU from the server in the middle of a script, which would count as the script's time."""
    try:
        os.sched_setscheduler(redis.process.pid, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        run.say("warning: no right to give the server real-time priority: expect scripts that take longer")


def longest(slowlog: str) -> int | None:
    """Of the scripts in a slow log; None when there is none."""
    times = [entry[2] for entry in json.loads(slowlog) if entry[3][0].upper().startswith("EVAL")]
    return max(times, default=None)


def processes(run: Run) -> dict:
    """So many processes, each on a lock of its own: locks/s for each core that the server uses."""
    seconds = 0.5 if run.quick else 1.5
    out: dict = {}
    counts = (1, 16, 64) if run.quick else (1, 4, 16, 64)
    with stopping([]) as things:
        redis = Redis(run.tmp, "redis-processes", SERVER_CPU)
        things.append(redis)
        workers = {}
        for contestant in (OURS, *PEERS):
            workers[contestant] = [lock_worker(run, contestant, redis.tcp, f"bench:{contestant}:{i}", CLIENT_CPU)
                                   for i in range(max(counts))]
            things += workers[contestant]
        for number, count in enumerate(counts):
            for contestant in rotated([OURS, *PEERS], number):
                run.progress(f"scale: {count} processes, {contestant}")
                before = server_cpu(redis)
                done, _ = count_together(workers[contestant][:count], "seconds", seconds, run.tmp / "scale-counter")
                used = server_cpu(redis) - before
                out.setdefault(contestant, {})[str(count)] = {
                    "locks_per_s": round(sum(done) / seconds, 1),
                    "locks_per_server_core_s": round(sum(done) / used) if used else None}
    return out


class Shards:
    """A Redis Cluster of primaries alone."""

    def __init__(self, run: Run, number: int) -> None:
        self.servers: list[Redis] = []
        self.buses = [free_port() for _ in range(number)]
        try:
            for i, bus in enumerate(self.buses):
                folder = run.tmp / f"shards-{number}-{i}"
                folder.mkdir()
                self.servers.append(Redis(folder, "redis", SERVER_CPU, (
                    "--save", "", "--appendonly", "no", "--cluster-enabled", "yes", "--cluster-port", str(bus))))
            self.join()
        except BaseException:
            self.stop()
            raise

    def join(self) -> None:
        first = self.servers[0]
        for i, server in enumerate(self.servers):
            step = -(-SLOTS // len(self.servers))
            command(server, "CLUSTER", "ADDSLOTSRANGE", str(i * step), str(min(SLOTS, (i + 1) * step) - 1))
            command(server, "CLUSTER", "SET-CONFIG-EPOCH", str(i + 1))
            if server is not first:
                command(server, "CLUSTER", "MEET", "127.0.0.1", str(first.port), str(self.buses[0]))

        def agree() -> None:
            for server in self.servers:
                if "cluster_state:ok" not in command(server, "CLUSTER", "INFO"):
                    raise OSError
                if f"cluster_known_nodes:{len(self.servers)}" not in command(server, "CLUSTER", "INFO"):
                    raise OSError

        wait_for("the cluster", first.process, agree)

    @property
    def address(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def cpu(self) -> float:
        return sum(server_cpu(server) for server in self.servers)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def shards(run: Run) -> dict:
    """A cluster of so many shards: the same processes, each on a lock of its own."""
    seconds = 0.5 if run.quick else 2
    out: dict = {}
    for number in SHARDS:
        run.progress(f"scale: {number} shards")
        with stopping([]) as things:
            cluster = Shards(run, number)
            things.append(cluster)
            workers = [lock_worker(run, OURS, cluster.address, f"bench:shard:{i}", CLIENT_CPU)
                       for i in range(SHARD_PROCESSES)]
            things += workers
            before = cluster.cpu()
            done, _ = count_together(workers, "seconds", seconds, run.tmp / "scale-counter")
            used = cluster.cpu() - before
            out[str(number)] = {"locks_per_s": round(sum(done) / seconds, 1),
                                "locks_per_server_core_s": round(sum(done) / used) if used else None}
    return out


def table(run: Run) -> list[str]:
    out = run.results["scale"]
    lines = ["", "(scale) locks held by one process: server CPU, client CPU, renewals/s, lost"]
    for distance, points in out["held"].items():
        for number, p in points.items():
            lines.append(f"    {int(number):>6} locks, {distance:>2} ms away {p['server_cpu']:>8.1%} {p['client_cpu']:>8.1%}"
                         f" {p['renewals_per_s']:>9.0f} {p['lost']:>6}")
    lines += ["", "(scale) waiters of one lock: server CPU, that of as many idle connections, client CPU, hand-over p50 and p99,"
                  " longest script"]
    for number, p in out["waiters"].items():
        script = f"{p['longest_script_us']} µs" if p["longest_script_us"] else f"< {SLOWLOG_US} µs"
        lines.append(f"    {int(number):>6} waiters {p['server_cpu']:>8.1%} {p['connections_cpu']:>8.1%} {p['client_cpu']:>8.1%}"
                     f" {p['hand_over']['p50_us'] / 1e3:>8.2f} ms {p['hand_over']['p99_us'] / 1e3:>8.2f} ms {script:>12}")
    lines += ["", "(scale) processes, each on a lock of its own: locks/s (for each core that the server uses)"]
    for contestant, points in out["processes"].items():
        cells = "".join(f"{p['locks_per_s']:>10.0f} ({p['locks_per_server_core_s']})" for p in points.values())
        lines.append(f"    {contestant:<16}{cells}")
    lines += ["", f"(scale) shards of a cluster, {SHARD_PROCESSES} processes: locks/s (for each core that the servers use)"]
    for number, p in out["shards"].items():
        lines.append(f"    {number} {p['locks_per_s']:>10.0f} ({p['locks_per_server_core_s']})")
    return lines


def targets(run: Run) -> None:
    out = run.results["scale"]
    lost = sum(p["lost"] for points in out["held"].values() for p in points.values())
    run.target("no lock of up to 10,000 lost at up to 50 ms", lost, lost == 0, " lost")
    most = out["waiters"]["10000"]
    run.target("10,000 waiters: server CPU <= 10 % of a core", most["server_cpu"], most["server_cpu"] <= 0.1)
    more = most["server_cpu"] - most["connections_cpu"]
    run.target("10,000 waiters: <= 10 % of a core more than 10,000 idle connections", round(more, 4), more <= 0.1)
    slowest = max((p["longest_script_us"] or 0) for p in out["waiters"].values())
    run.target("the longest script with up to 10,000 waiters <= 2 ms", slowest, slowest <= 2000, " µs")
