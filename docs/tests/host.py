"""Where the blocks run: a host of their own in namespaces of the kernel, so that the pages can say 127.0.0.1:6379 and
/var/www/html and mean it. Everything that runs in it ends with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

from pages import ROOT, Skipped
from servers import Answering, Far, Process, Redis, Scriptless, Sockets, redis_cli, until
from stand.fcgi import ask_once
from stand.servers import find_fpm, prefix, stop

NODE = "web1"
SITE = Path("/var/www/html")
LOG = Path("/var/www/error.log")
MINE = Path("/var/www/stand")
LAYERS = Path("/var/www/layers")
HERE = Path(__file__).resolve().parent
# Where a package puts a command and what belongs to it.
PACKAGE = ("bin", "share/bash-completion/completions", "share/zsh/vendor-completions", "share/fish/vendor_completions.d")
# The pages call the servers by these.
ADDRESSES = [f"10.0.0.{last}" for last in range(5, 10)]


def on_hosts(number: int, arguments: list[str]) -> list[str]:
    """Starts this program on so many hosts, and returns what it says on each of them."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*unshare, "true"], stderr=subprocess.PIPE, text=True, check=False)
    if probe.returncode:
        raise Skipped("every page runs on a host of its own, in namespaces of the kernel, which this place does not give "
                      f"({probe.stderr.strip()}; a container needs --privileged)")
    hosts = [subprocess.Popen([*prefix(), *unshare, "--", sys.executable, *arguments, "--host", str(i)], text=True,
                              stdout=subprocess.PIPE) for i in range(number)]
    said = [host.communicate()[0] for host in hosts]
    if any(host.returncode for host in hosts):
        sys.exit("docs: a host has ended early")
    return said


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def prepare(write: bool) -> None:
    """`write`: what is written to the repository is to stay there."""
    run("ip", "link", "set", "lo", "up")
    for address in ADDRESSES:
        run("ip", "address", "add", f"{address}/32", "dev", "lo")
    run("hostname", NODE)
    for directory in ("/var/www", "/srv", "/mnt"):
        if not Path(directory).is_dir():
            sys.exit(f"docs: there is no {directory} to put the stand's own over: run script/bootstrap test")
        run("mount", "-t", "tmpfs", "-o", "mode=755", "stand", directory)
    # Commands may install what they like: into layers above the directories of this machine.
    config = os.environ.get("PHP_CONFIG", "php-config")
    modules = subprocess.run([config, "--extension-dir"], capture_output=True, text=True, check=True).stdout.strip()
    for number, directory in enumerate([modules, "/usr/local", "/var/lib", *([] if write else [str(ROOT)])]):
        layer = LAYERS / str(number)
        for part in ("upper", "work"):
            (layer / part).mkdir(parents=True)
        run("mount", "-t", "overlay", "-o", f"lowerdir={directory},upperdir={layer}/upper,workdir={layer}/work", "layer",
            directory)
    hide_other_phps()


def hide_other_phps() -> None:
    """What else this machine has installed is no part of the pages' host: a device is no program to anybody."""
    php = find_php()
    minor = php_minor(php)
    own = os.path.realpath(find_fpm(minor) or php)
    directories = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    found = {os.path.realpath(path) for directory in directories for path in Path(directory).glob("php*fpm*")}
    for other in sorted(found - {own}):
        run("mount", "--bind", "/dev/null", other)


def find_php() -> str:
    return os.environ.get("PHP") or shutil.which("php") or sys.exit("docs: no php")


def php_minor(php: str) -> str:
    return subprocess.run([php, "-n", "-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;"],
                          capture_output=True, text=True, check=True).stdout


PLAIN = ("--port", "6379", "--bind", "127.0.0.1", *ADDRESSES[:1], "--enable-debug-command", "local")


class Host:
    """The host while one page is run."""

    def __init__(self) -> None:
        self.php = find_php()
        self.so = os.environ.get("CLUSTER_LOCK_SO") or str(ROOT / "target/modules/cluster_lock.so")
        if not Path(self.so).exists():
            sys.exit(f"docs: there is no {self.so}: run script/build")
        minor = php_minor(self.php)
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
        for directory in (SITE / "wp-content/cache", SITE / "wp-content/mu-plugins", Path("/mnt/efs/wp-content"),
                          Path("/var/lib/prometheus/node-exporter"), MINE / "bin", MINE / "tmp", self.conf,
                          *(MINE / "package/usr" / part for part in PACKAGE)):
            directory.mkdir(parents=True, exist_ok=True)
        own = HERE / f"fixtures/pages/{of}.ini"
        self.settings("10-cluster_lock.ini", own.read_text() if own.exists() else f"extension={self.so}\n")
        self.settings("20-stand.ini", "display_errors=1\nhtml_errors=0\nlog_errors=1\nlog_errors_max_len=0\n"
                      f"error_log={LOG}\nerror_reporting=E_ALL\nauto_prepend_file={HERE}/fixtures/prelude.php\n")
        # Root may do everything; the users of these pages may not.
        self.program("php", f'exec setpriv --bounding-set=-dac_override,-dac_read_search,-fowner -- {self.php} "$@"')
        self.program("sudo", 'exec "$@"')
        self.program("ssh", 'shift; exec "$@"')
        for example in (Path("/usr/local/bin/import"), MINE / "bin/rsync"):
            example.write_text("#!/bin/sh\n")
            example.chmod(0o755)
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
                if entry == LAYERS:
                    continue
                while entry.is_mount():
                    run("umount", "--recursive", str(entry))
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
            "PAGES_OF": self.pages_of, "DESTDIR": str(MINE / "package"),
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
        self.add(Redis(MINE / "redis", *PLAIN)).ready()

    def start_sentinel(self) -> None:
        """A primary on 10.0.0.5, a sentinel on 10.0.0.6 that calls it "locks"."""
        self.start_redis()
        self.sentinel()

    def sentinel(self) -> list[str]:
        """How redis-cli reaches the sentinel, which is there from now on."""
        at = ["-h", "10.0.0.6", "-p", "26379"]
        if b"PONG" in redis_cli(*at, "PING"):
            return at
        conf = MINE / "sentinel.conf"
        conf.write_text("port 26379\nbind 10.0.0.6\nsentinel monitor locks 10.0.0.5 6379 1\n"
                        "sentinel down-after-milliseconds locks 500\n")
        self.add(Redis(MINE / "sentinel", str(conf), "--sentinel")).ready(*at)
        return at

    def start_cluster(self) -> None:
        """A cluster of one server, on 10.0.0.5, that serves all slots."""
        self.start_slotless()
        redis_cli("-h", "10.0.0.5", "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        until("the cluster", self.running[-1].process,
              lambda: b"cluster_state:ok" in redis_cli("-h", "10.0.0.5", "CLUSTER", "INFO"))

    def start_slotless(self) -> None:
        """The same before it has any slot."""
        cluster = ("--cluster-enabled", "yes", "--cluster-announce-ip", "10.0.0.5")
        self.add(Redis(MINE / "cluster", *PLAIN, *cluster)).ready()

    def start_quorum(self) -> None:
        """Three servers: 10.0.0.5, .6 and .7."""
        for address in ADDRESSES[:3]:
            options = ("--port", "6379", "--bind", address)
            self.add(Redis(MINE / address, *options)).ready("-h", address)

    def start_tls(self) -> None:
        """10.0.0.5:6380 speaks TLS; its certificate is /srv/tls/redis.crt, of the authority /srv/tls/ca.crt."""
        Path("/srv/tls").mkdir()
        run("sh", "-ec", f"cd /srv/tls && . {HERE}/fixtures/certificates.sh")
        files = ("--tls-cert-file", "/srv/tls/redis.crt", "--tls-key-file", "/srv/tls/redis.key", "--tls-ca-cert-file",
                 "/srv/tls/ca.crt")
        self.add(Redis(MINE / "tls", *PLAIN, "--tls-port", "6380", "--tls-auth-clients", "no", *files)).ready()

    def start_full(self) -> None:
        """/mnt/full, a file system with 16 kB."""
        Path("/mnt/full").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=16k", "full", "/mnt/full")

    def start_mounted(self) -> None:
        """/mnt/site/.htaccess, a file that is mounted by itself."""
        Path("/mnt/site").mkdir()
        run("mount", "-t", "tmpfs", "site", "/mnt/site")
        for name in ("/mnt/htaccess", "/mnt/site/.htaccess"):
            Path(name).touch()
        run("mount", "--bind", "/mnt/htaccess", "/mnt/site/.htaccess")

    def start_fpm(self) -> None:
        """The php-fpm of this node, and a systemctl that knows how to reload it."""
        self.pool("")
        log, pid = MINE / "fpm.log", MINE / "fpm.pid"
        command = [self.fpm, "-R", "-F", "-y", str(self.pool_file), "-g", str(pid)]
        self.running.append(Process(command, self.environment(),
                                    lambda: log.exists() and "ready to handle" in log.read_text()))
        self.program("systemctl", f'''case "$1 $2" in "reload php"*-fpm) ;; *) exit 1 ;; esac
kill -USR2 "$(cat {pid})"
for i in $(seq 200); do [ "$(grep -c "ready to handle connections" {log})" = 2 ] && exit; sleep 0.05; done; exit 1''')

    @property
    def pool_file(self) -> Path:
        return MINE / "fpm.conf"

    def pool(self, more: str) -> None:
        """A configuration of php-fpm with these lines in its pool."""
        self.pool_file.write_text(f"[global]\nerror_log = {MINE}/fpm.log\ndaemonize = no\n[www]\nuser = root\n"
                                  f"group = root\nlisten = {MINE}/fpm.sock\npm = static\npm.max_children = 1\n{more}\n")

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

    def start_renamed(self) -> None:
        """A server whose configuration takes a command away."""
        self.add(Redis(MINE / "renamed", *PLAIN, "--rename-command", "EVALSHA", "")).ready()

    def start_lualess(self) -> None:
        """10.0.0.9:6379 runs no scripts: it has no Lua."""
        self.start_redis()
        self.running.append(Scriptless(b"-ERR Could not find scripting engine 'lua'\r\n"))

    def start_scriptless(self) -> None:
        """10.0.0.9:6379 does not pass scripts on."""
        self.start_redis()
        self.running.append(Scriptless(b"-NOSCRIPT No matching script. Please use EVAL.\r\n"))

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


class Holder:
    """One request to a php-fpm of another node that holds a lock until it is told to end."""

    def __init__(self, host: Host, what: str, seconds: float | None) -> None:
        self._until, ready, path = MINE / "until", MINE / "held", MINE / "web2.sock"
        ready.unlink(missing_ok=True)
        self._until.touch()
        conf = MINE / "web2.conf"
        conf.write_text(f"[global]\nerror_log = {MINE}/web2.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\n"
                        f"listen = {path}\npm = static\npm.max_children = 1\nclear_env = no\n")
        self._fpm = subprocess.Popen(
            [*prefix(), host.fpm, "-R", "-F", "-y", str(conf), "-d", "cluster_lock.node=web2"],
            env=host.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("php-fpm", self._fpm, path.exists)
        query = f"what={what}&until={self._until}&ready={ready}&for={seconds or ''}"
        uri = "/wp-admin/admin-ajax.php"
        self._request = threading.Thread(target=ask_once, args=(path, Path(f"{SITE}{uri}"), query, 60, uri))
        self._request.start()
        until(f"The holder of {what}", self._fpm, ready.exists)

    def stop(self) -> None:
        self._until.unlink(missing_ok=True)
        self._request.join()
        stop(self._fpm)
