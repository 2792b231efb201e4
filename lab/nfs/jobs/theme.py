"""The story: savers on two nodes press Save over HTTP, each save compiles the theme into the shared directory, and visitors read it
on both nodes. How long does a save take, and what becomes of it? nginx and php-fpm on each node, with the demo's compiler.

All savers save at once, and again when all are through and a second has passed. A compile takes 100 ms and next to no CPU, so
that the one that plays all nodes is not what they wait for: as if each saver had one. The first time counts for what becomes of
the saves, and not for how long they take: PHP's workers have only just been started.

Arguments: version=4.0 rounds=4 savers=12 compile_ms=100 ways=cluster_lock,cluster_file_build (all of WAYS)
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from lab import EXPORT, FPM, MOUNTS, NODES, PHP, arguments, mounted, on, record, settings

sys.path.append("/run/lab/demo")
from load import ACCENT, quantile, whole  # noqa: E402

# name: (file of the way, variant of the nodes' php.ini)
WAYS = {
    "fopen-flock": ("fopen-flock", "flock"),
    "fopen-flock-intercepted": ("fopen-flock", "intercept-gate"),
    "file_put_contents-intercepted": ("file-put-contents", "intercept-gate"),
    "cluster_file_put_contents": ("cluster-file-put-contents", "gate"),
    "cluster_lock": ("4-cluster-lock", "gate"),
    "cluster_file_build": ("5-cluster-file-build", "gate"),
}
ADDRESS = {"a": "10.9.0.11", "b": "10.9.0.12"}
ROOM = Path("/run/theme")
SITE = ROOM / "site"
THEME = Path("/usr/share/wordpress/wp-content/themes/twentytwentyone")
# Debian 13 has no such theme.
SHEETS = ([THEME / name for name in ("style.css", "assets/css/style-dark-mode.css", "assets/css/print.css")]
          if THEME.is_dir() else [Path("/usr/share/javascript/bootstrap5/css/bootstrap.css")])
WORKERS = 8
# From PHP 8.5 on it is part of PHP itself.
OPCACHE = Path(subprocess.run([PHP, "-n", "-r", "echo ini_get('extension_dir');"], stdout=subprocess.PIPE, text=True,
                              check=True).stdout, "opcache.so").exists()
OLD = 1.0  # seconds for which a read may lag behind
PATIENCE = 300  # seconds; what flock() takes is waited for

# The lock server answers when it gets the CPU that plays all nodes.
PATIENT = ["-d", "cluster_lock.connect_timeout=20", "-d", "cluster_lock.command_timeout=20"]

FPM_CONF = """[global]
error_log = {room}/{node}-fpm.log
daemonize = no
[www]
user = root
group = root
listen = {room}/{node}.sock
listen.backlog = 511
pm = static
pm.max_children = {workers}
clear_env = yes
catch_workers_output = yes
php_admin_value[error_log] = {room}/{node}-php.log
env[DEMO_NODE] = {node}
env[DEMO_THEME] = {sheets}
env[DEMO_EFFORT] = 1
env[DEMO_LEAST_MS] = {compile_ms}
env[DEMO_PUBLISHED] = {published}
env[DEMO_COMPILES] = {room}/compiles/{node}
"""

NGINX_CONF = """daemon off;
user root;
worker_processes 1;
pid {room}/{node}-nginx.pid;
error_log {room}/{node}-nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    types {{ text/css css; }}
    sendfile on;
    keepalive_requests 1000000;
    keepalive_timeout 1h;
    client_body_temp_path {room}/{node}-body;
    fastcgi_temp_path {room}/{node}-fastcgi;
    proxy_temp_path {room}/{node}-proxy;
    scgi_temp_path {room}/{node}-scgi;
    uwsgi_temp_path {room}/{node}-uwsgi;
    fastcgi_read_timeout {patience}s;
    server {{
        listen {address}:80;
        root {published};
        location = /save {{
            fastcgi_param SCRIPT_FILENAME {room}/site/save.php;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_pass unix:{room}/{node}.sock;
        }}
    }}
}}
"""


@contextlib.contextmanager
def site(version: str, variant: str, folder: str, compile_ms: int):
    """php-fpm and nginx on both nodes; the published directory is a new one."""
    servers = []
    for node in NODES:
        (ROOM / f"compiles/{node}").mkdir(parents=True, exist_ok=True)
        given = {"room": ROOM, "node": node, "sheets": ":".join(map(str, SHEETS)), "compile_ms": compile_ms, "workers": WORKERS,
                 "published": f"{MOUNTS[node]}/{version}/{folder}", "address": ADDRESS[node], "patience": PATIENCE}
        for name, conf in (("fpm", FPM_CONF), ("nginx", NGINX_CONF)):
            (ROOM / f"{node}-{name}.conf").write_text(conf.format(**given))
        opcache = ["-d", "zend_extension=opcache"] if OPCACHE else []
        php = ["-n", *opcache, "-d", "log_errors=1", "-d", "display_errors=0", *settings(node, variant)]
        if variant != "flock":
            php += PATIENT
        for command in ([FPM, *php, "-R", "-F", "-y", f"{ROOM}/{node}-fpm.conf"],
                        ["nginx", "-c", f"{ROOM}/{node}-nginx.conf", "-e", f"{ROOM}/{node}-nginx.log"]):
            servers.append(subprocess.Popen(on(node, *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until_up(node)
    yield
    for server in servers:
        server.terminate()
    for server in servers:
        server.wait(60)


def until_up(node: str) -> None:
    deadline = time.monotonic() + 60
    for kind, address in ((socket.AF_UNIX, f"{ROOM}/{node}.sock"), (socket.AF_INET, (ADDRESS[node], 80))):
        while True:
            with socket.socket(kind, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(address) == 0:
                    break
            if time.monotonic() > deadline:
                sys.exit(f"{address} does not answer; {logs()}")
            time.sleep(0.05)


def logs() -> str:
    return " | ".join(line for log in sorted(ROOM.glob("*.log")) for line in log.read_text().splitlines()[-3:])


@dataclass
class Save:
    page: str
    colour: str
    began: float
    done: float = 0.0
    stored: bool = False


@dataclass
class Read:
    began: float
    pages: dict


@dataclass
class Run:
    """One way: its savers and its visitors."""

    way: str
    saves: list[Save] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    torn: int = 0
    example: str = ""  # what the first torn read looked like
    refused: int = 0  # reads that nginx answered with an error
    errors: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def request(self, connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
        """Status 0: the answer broke off."""
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return 0, repr(error).encode()

    def save(self, connection: http.client.HTTPConnection, page: str, colour: str) -> None:
        save = Save(page, colour, time.monotonic())
        self.saves.append(save)
        status, body = self.request(connection, "POST", f"/save?way={self.way}&page={page}&colour={quote(colour)}")
        save.done, save.stored = time.monotonic(), status == 200
        if not save.stored:
            self.errors.append(f"HTTP {status}: {body[:200].decode(errors='replace')}")

    def saver(self, number: int, rounds: int, together: threading.Barrier) -> None:
        connection = http.client.HTTPConnection(ADDRESS[NODES[number % len(NODES)]], 80, timeout=PATIENCE)
        for turn in range(rounds + 1):
            together.wait()
            self.save(connection, f"{turn}x{number}", f"#{number:02x}{turn:02x}00")
            together.wait()
            time.sleep(OLD)
        connection.close()

    def visitor(self, node: str) -> None:
        connection = http.client.HTTPConnection(ADDRESS[node], 80, timeout=PATIENCE)
        # Rested a little: the machine should be busy with PHP, and not with its visitors.
        while not self.stop.wait(0.1):
            began = time.monotonic()
            status, css = self.request(connection, "GET", f"/{self.way}/style.css")
            if status == 200 and whole(css):
                self.reads.append(Read(began, accents(css)))
            elif status not in (0, 200):
                self.refused += 1
            else:
                self.torn += 1
                self.example = self.example or f"on {node}: HTTP {status}, " + (
                    f"{len(css)} bytes" if status else css.decode())
        connection.close()

    def old(self) -> int:
        """Reads whose newest save was over before another one, which was over for more than OLD seconds when they began."""
        done = {save.page: save.done for save in self.saves if save.stored}
        late = 0
        for read in self.reads:
            # A save that is not over yet is newer than all that are.
            newest = max((done.get(page, float("inf")) for page in read.pages), default=0.0)
            last = max((at for at in done.values() if at < read.began - OLD), default=0.0)
            late += newest < last
        return late


def accents(css: bytes) -> dict[str, str]:
    return {page.decode(): colour.decode() for page, colour in ACCENT.findall(css)}


def measure(version: str, name: str, rounds: int, savers: int, compile_ms: int) -> dict:
    way, variant = WAYS[name]
    folder = f"theme.{version}.{list(WAYS).index(name)}"
    (EXPORT / folder / way).mkdir(parents=True)
    shutil.rmtree(ROOM / "compiles", ignore_errors=True)
    with site(version, variant, folder, compile_ms):
        run = Run(way)
        first = http.client.HTTPConnection(ADDRESS["a"], 80, timeout=PATIENCE)
        run.save(first, "home", "#28303d")
        first.close()
        if run.errors:
            sys.exit(f"{name}: the first save failed: {run.errors[0]}; {logs()}")
        together = threading.Barrier(savers)
        busy = [threading.Thread(target=run.saver, args=(number, rounds, together)) for number in range(savers)]
        visitors = [threading.Thread(target=run.visitor, args=(node,)) for node in NODES]
        began = time.monotonic()
        for thread in busy + visitors:
            thread.start()
        for thread in busy:
            thread.join()
        took = time.monotonic() - began
        run.stop.set()
        for thread in visitors:
            thread.join()
    css = (EXPORT / folder / way / "style.css").read_bytes()
    there = accents(css)
    lost = [save.page for save in run.saves if save.stored and there.get(save.page) != save.colour]
    options = (EXPORT / folder / way / "options.json").read_text(errors="replace")
    forgotten = [page for page in lost if f"--page-{page}--accent" not in options]
    compiles = sum((ROOM / f"compiles/{node}/{way}").stat().st_size for node in NODES
                   if (ROOM / f"compiles/{node}/{way}").exists())
    took_ms = [(save.done - save.began) * 1000 for save in run.saves[1 + savers:] if save.stored]
    return {"saves": len(run.saves), "stored": sum(save.stored for save in run.saves), "lost": len(lost), "not_in_options": len(forgotten), "errors": len(run.errors),
            "error": run.errors[0] if run.errors else "", "broken": not whole(css), "reads": len(run.reads) + run.torn + run.refused,
            "torn": run.torn, "torn_example": run.example, "refused": run.refused, "old": run.old(), "compiles": compiles,
            "p50_ms": round(quantile(took_ms, 0.5), 1), "p99_ms": round(quantile(took_ms, 0.99), 1),
            "max_ms": round(max(took_ms), 1), "seconds": round(took, 1)}


def main() -> None:
    given = arguments()
    version, rounds, savers = given["version"], int(given["rounds"]), int(given.get("savers", 12))
    if not FPM:
        sys.exit("this PHP has no php-fpm")
    ROOM.mkdir()
    shutil.copytree("/run/lab/demo/site", SITE)
    shutil.copytree("/run/lab/nfs/ways", SITE / "ways", dirs_exist_ok=True)
    compile_ms = int(given.get("compile_ms", 100))
    with mounted(version):
        for name in given["ways"].split(",") if "ways" in given else WAYS:
            record("theme", version=version, way=name, savers=savers, rounds=rounds, compile_ms=compile_ms,
                   **measure(version, name, rounds, savers, compile_ms))
    for log in sorted([*ROOM.glob("*-php.log"), *ROOM.glob("*-nginx.log")]):
        said = log.read_text().splitlines()
        print(f"{log.name} has {len(said)} lines", *said[:5], sep="\n")


main()
