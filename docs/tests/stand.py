"""Where the blocks run: a host of their own in namespaces of the kernel, so that the pages can say 127.0.0.1:6379 and
/var/www/html and mean it. Everything that runs in it ends with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from harness.fcgi import ask_once  # noqa: E402
from harness.servers import find_fpm, prefix, stop, wait_for  # noqa: E402

NODE = "web1"
SITE = Path("/var/www/html")
LOG = Path("/var/www/error.log")
MINE = Path("/var/www/stand")
HERE = Path(__file__).resolve().parent
# The pages call the servers by these.
ADDRESSES = [f"10.0.0.{last}" for last in range(5, 10)]


def on_hosts(number: int, arguments: list[str]) -> list[str]:
    """Starts this program on so many hosts, and returns what it says on each of them."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        sys.exit("docs: this host allows no namespaces of the kernel (unshare): run it as root")
    hosts = [subprocess.Popen([*prefix(), *unshare, "--", sys.executable, *arguments, "--host", str(i)], text=True,
                              stdout=subprocess.PIPE) for i in range(number)]
    said = [host.communicate()[0] for host in hosts]
    if any(host.returncode for host in hosts):
        sys.exit("docs: a host has ended early")
    return said


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def prepare(read_only: bool) -> None:
    """`read_only`: the repository is not to be changed by what runs."""
    run("ip", "link", "set", "lo", "up")
    for address in ADDRESSES:
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    run("hostname", NODE)
    for directory in ("/var/www", "/srv", "/mnt"):
        if not Path(directory).is_dir():
            sys.exit(f"docs: there is no {directory} to put the stand's own over: run script/bootstrap")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "stand", directory)
    # Commands may install the extension: into a layer above the directory that is PHP's.
    layer = Path("/var/www/layer")
    for part in ("upper", "work"):
        (layer / part).mkdir(parents=True)
    modules = subprocess.run(["php-config", "--extension-dir"], capture_output=True, text=True, check=True).stdout.strip()
    run("mount", "-t", "overlay", "-o", f"lowerdir={modules},upperdir={layer}/upper,workdir={layer}/work", "layer",
        modules)
    if read_only:
        run("mount", "--bind", str(ROOT), str(ROOT))
        run("mount", "-o", "remount,bind,ro", str(ROOT))


class Redis:
    """A redis-server on the addresses and ports that the pages name."""

    def __init__(self, name: str, *options: str) -> None:
        self.dir = MINE / name
        self.dir.mkdir()
        self._log = self.dir / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*prefix(), "redis-server", *options, "--dir", str(self.dir), "--daemonize", "no", "--protected-mode", "no",
                 "--save", "", "--appendonly", "no"],
                stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"TZ": "UTC"})

    def ready(self, *cli: str) -> Redis:
        def attempt() -> None:
            if b"PONG" not in command(*cli, "PING"):
                raise OSError

        wait_for("redis-server", self.process, attempt)
        return self

    def stop(self) -> None:
        stop(self.process)


def command(*cli: str) -> bytes:
    """What redis-cli answers."""
    return subprocess.run(["redis-cli", *cli], capture_output=True, check=False).stdout


PLAIN = ("--port", "6379", "--bind", "127.0.0.1", *ADDRESSES[:1], "--enable-debug-command", "local")


class Stand:
    """The host while one page is run."""

    def __init__(self) -> None:
        self.php = os.environ.get("PHP") or shutil.which("php") or sys.exit("docs: no php")
        self.so = os.environ.get("CLUSTER_LOCK_SO") or str(ROOT / "target/modules/cluster_lock.so")
        if not Path(self.so).exists():
            sys.exit(f"docs: there is no {self.so}: run script/build")
        minor = subprocess.run([self.php, "-n", "-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;"],
                               capture_output=True, text=True, check=True).stdout
        self.fpm = find_fpm(minor) or sys.exit(f"docs: no php-fpm{minor}")
        self.running: list = []
        self.holders: list[Holder] = []
        self.conf = MINE / "conf.d"
        self.pages_of = ""

    # ---- a page --------------------------------------------------------------------------------------------------

    def begin(self, kinds: str | None, of: str = "") -> None:
        """A new host: empty directories, php.ini as it comes, and the servers that the page wants. `of`: whose page."""
        self.end()
        self.pages_of = of
        self._clear()
        for directory in (SITE / "wp-content/cache", SITE / "wp-content/mu-plugins", Path("/mnt/efs/wp-content"), MINE / "bin", MINE / "tmp", self.conf):
            directory.mkdir(parents=True, exist_ok=True)
        self.settings("10-cluster_lock.ini", f"extension={self.so}\n")
        self.settings("20-stand.ini", "display_errors=1\nhtml_errors=0\nlog_errors=1\nlog_errors_max_len=0\n"
                      f"error_log={LOG}\nerror_reporting=E_ALL\nauto_prepend_file={HERE}/fixtures/prelude.php\n")
        # Root may do everything; the users of these pages may not.
        self.program("php", f'exec setpriv --bounding-set=-dac_override,-dac_read_search,-fowner -- {self.php} "$@"')
        self.program("sudo", 'exec "$@"')
        shutil.copytree(HERE / "fixtures/site", SITE, dirs_exist_ok=True)
        for kind in (kinds or "redis").split("+"):
            if kind != "none":
                getattr(self, f"start_{kind}")()

    def end(self) -> None:
        while self.holders:
            self.holders.pop().stop()
        while self.running:
            self.running.pop().stop()

    def _clear(self) -> None:
        for directory in (Path("/var/www"), Path("/srv"), Path("/mnt")):
            for entry in directory.iterdir():
                if entry.name == "layer":
                    continue
                while entry.is_mount():
                    run("umount", str(entry))
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def settings(self, name: str, text: str) -> None:
        (self.conf / name).write_text(text)

    def program(self, name: str, text: str) -> None:
        path = MINE / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def environment(self) -> dict[str, str]:
        tools = [str(MINE / "bin"), os.environ["PATH"], str(ROOT / "target/release")]
        return os.environ | {
            "PATH": ":".join(tools), "PHP_INI_SCAN_DIR": f":{self.conf}", "TZ": "UTC", "LC_ALL": "C.UTF-8",
            "ROOT": str(ROOT), "HOSTNAME": NODE, "NO_COLOR": "1", "TMPDIR": str(MINE / "tmp"),
            "PAGES_OF": self.pages_of,
        }

    def execute(self, *words: str, cwd: Path = SITE) -> subprocess.CompletedProcess[str]:
        """With both streams in one; no more than a minute."""
        return subprocess.run(words, cwd=cwd, env=self.environment(), stdin=subprocess.DEVNULL, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="backslashreplace")

    # ---- servers -------------------------------------------------------------------------------------------------

    def add(self, server: Redis) -> Redis:
        self.running.append(server)
        return server

    def start_redis(self) -> None:
        self.add(Redis("redis", *PLAIN)).ready()

    def start_sentinel(self) -> None:
        """A primary on 10.0.0.5, a sentinel on 10.0.0.6 that calls it "locks"."""
        self.start_redis()
        self.sentinel()

    def sentinel(self) -> list[str]:
        """How redis-cli reaches the sentinel, which is there from now on."""
        at = ["-h", "10.0.0.6", "-p", "26379"]
        if b"PONG" in command(*at, "PING"):
            return at
        conf = MINE / "sentinel.conf"
        conf.write_text("port 26379\nbind 10.0.0.6\nsentinel monitor locks 10.0.0.5 6379 1\n"
                        "sentinel down-after-milliseconds locks 500\n")
        self.add(Redis("sentinel", str(conf), "--sentinel")).ready(*at)
        return at

    def start_cluster(self) -> None:
        """A cluster of one server, on 10.0.0.5, that serves all slots."""
        self.start_slotless()
        command("-h", "10.0.0.5", "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        deadline = time.monotonic() + 10
        while b"cluster_state:ok" not in command("-h", "10.0.0.5", "CLUSTER", "INFO"):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not get ready")
            time.sleep(0.02)

    def start_slotless(self) -> None:
        """The same before it has any slot."""
        self.add(Redis("cluster", *PLAIN, "--cluster-enabled", "yes", "--cluster-announce-ip", "10.0.0.5")).ready()

    def start_quorum(self) -> None:
        """Three servers: 10.0.0.5, .6 and .7."""
        for address in ADDRESSES[:3]:
            options = ("--port", "6379", "--bind", address)
            self.add(Redis(address, *options)).ready("-h", address)

    def start_tls(self) -> None:
        """10.0.0.5:6380 speaks TLS; its certificate is /srv/tls/redis.crt, of the authority /srv/tls/ca.crt."""
        Path("/srv/tls").mkdir()
        run("sh", "-ec", f"cd /srv/tls && . {HERE}/fixtures/certificates.sh")
        self.add(Redis("tls", *PLAIN, "--tls-port", "6380", "--tls-cert-file", "/srv/tls/redis.crt", "--tls-key-file",
                       "/srv/tls/redis.key", "--tls-ca-cert-file", "/srv/tls/ca.crt", "--tls-auth-clients", "no")
                 ).ready()

    def start_full(self) -> None:
        """/mnt/full, a file system with 16 kB."""
        Path("/mnt/full").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=16k", "full", "/mnt/full")

    def start_fpm(self) -> None:
        """The php-fpm of this node, and a systemctl that knows how to reload it."""
        self.pool("")
        log, pid = MINE / "fpm.log", MINE / "fpm.pid"
        self.running.append(Process([self.fpm, "-R", "-F", "-y", str(self.pool_file), "-g", str(pid)], self.environment(),
                                    lambda: ready_times(log, 1)))
        self.program("systemctl", f'''case "$1 $2" in "reload php"*-fpm) ;; *) exit 1 ;; esac
kill -USR2 "$(cat {pid})"
for i in $(seq 200); do [ "$(grep -c "ready to handle connections" {log})" = 2 ] && exit; sleep 0.05; done; exit 1''')

    @property
    def pool_file(self) -> Path:
        return MINE / "fpm.conf"

    def pool(self, more: str) -> None:
        """A configuration of php-fpm with these lines in its pool."""
        self.pool_file.write_text(f"[global]\nerror_log = {MINE}/fpm.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\n"
                                  f"listen = {MINE}/fpm.sock\npm = static\npm.max_children = 1\n{more}\n")

    def try_redis(self, text: str) -> str:
        """What a redis-server says that is started with this configuration."""
        self.end()
        conf, log, acl = MINE / "page.conf", MINE / "page.log", Path("/srv/tls/users.acl")
        conf.write_text(f"{text}\ndir {MINE}\n")
        acl.write_text("user default on nopass ~* &* +@all\n")
        with log.open("w") as file:
            server = subprocess.Popen([*prefix(), "redis-server", str(conf)], stdout=file, stderr=file)
        deadline = time.monotonic() + 10
        while "Ready to accept" not in log.read_text() and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        stop(server)
        return log.read_text()

    def start_silent(self) -> None:
        """10.0.0.8:6379 takes no more connections, and does not say so: its queue is full."""
        listener = socket.create_server(("10.0.0.8", 6379), backlog=0)
        self.running.append(Sockets(listener))
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("10.0.0.8", 6379))
            self.running.append(Sockets(client))

    def start_closing(self) -> None:
        """10.0.0.9:6379 hangs up on everybody."""
        self.running.append(Answering(b""))

    def start_http(self) -> None:
        """10.0.0.9:6379 is a web server."""
        self.running.append(Answering(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))

    def start_far(self) -> None:
        """10.0.0.9:6379 is the server, on another continent."""
        self.start_redis()
        self.running.append(Far())

    # ---- other requests ------------------------------------------------------------------------------------------

    def hold(self, what: str, seconds: float | None) -> None:
        """A page on the node web2 locks it: a name, or the file of a path."""
        self.holders.append(Holder(self, what, seconds))

    def let_go(self) -> None:
        while self.holders:
            self.holders.pop().stop()


def ready_times(log: Path, times: int) -> None:
    if log.read_text().count("ready to handle connections") < times:
        raise OSError


class Process:
    """A program that is there until the page ends."""

    def __init__(self, command: list[str], environment: dict[str, str], ready: Callable[[], None]) -> None:
        self._process = subprocess.Popen([*prefix(), *command], env=environment, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        wait_for(command[0], self._process, ready)

    def stop(self) -> None:
        stop(self._process)


class Sockets:
    def __init__(self, one: socket.socket) -> None:
        self._socket = one

    def stop(self) -> None:
        self._socket.close()


class Answering(Sockets):
    """A server that says the same to everybody, whatever they want, and hangs up."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(socket.create_server(("10.0.0.9", 6379)))
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._answer_to(client)

    def _answer_to(self, client: socket.socket) -> None:
        with client:
            client.recv(4096)
            client.sendall(self._answer)

    def stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        super().stop()
        self._thread.join()


class Far(Answering):
    """Hands on what it is told, and the answers, each after 0.1 s."""

    def __init__(self) -> None:
        super().__init__(b"")

    def _answer_to(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", 6379))
        for ends in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(1 << 16):
            time.sleep(0.1)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


class Holder:
    """One request to a php-fpm of another node that holds a lock until it is told to end."""

    def __init__(self, stand: Stand, what: str, seconds: float | None) -> None:
        self._until, ready, path = MINE / "until", MINE / "held", MINE / "web2.sock"
        ready.unlink(missing_ok=True)
        self._until.touch()
        conf = MINE / "web2.conf"
        conf.write_text(f"[global]\nerror_log = {MINE}/web2.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\n"
                        f"listen = {path}\npm = static\npm.max_children = 1\nclear_env = no\n")
        self._fpm = subprocess.Popen(
            [*prefix(), stand.fpm, "-R", "-F", "-y", str(conf), "-d", "cluster_lock.node=web2"],
            env=stand.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("php-fpm", self._fpm, lambda: path.stat())
        query = f"what={what}&until={self._until}&ready={ready}&for={seconds or ''}"
        uri = "/wp-admin/admin-ajax.php"
        self._request = threading.Thread(target=ask_once, args=(path, Path(f"{SITE}{uri}"), query, 60, uri))
        self._request.start()
        wait_for(f"The holder of {what}", self._fpm, lambda: ready.stat())

    def stop(self) -> None:
        self._until.unlink(missing_ok=True)
        self._request.join()
        stop(self._fpm)
