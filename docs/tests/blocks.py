"""What is done with each kind of block, and how what comes of it is compared with the page.

  php      a script of the site, run with the extension and a real server
  ini      php.ini: loaded by PHP; each setting must be taken as it stands, and so must those in its comments
  sh       commands; each must succeed. Those that need a bare machine or long are run elsewhere (elsewhere.py)
  console  commands behind "$ ", and what they print
  redis    commands of redis-cli; with "> " in front of them what follows is the reply
  conf     lines for a pool of php-fpm, which must accept them; redis.conf: redis-server starts with them
  text     a description that another test reads
  diff     both sides are run as PHP
  output   what the block before prints, errors included       log   what it leaves in PHP's error log

Times, pids, tokens and the like differ from run to run: they are compared as "a number of this kind".
"""

from __future__ import annotations

import difflib
import re
import shlex
from pathlib import Path

import yaml
from elsewhere import Elsewhere
from host import LOG, MINE, SITE, Host
from pages import ROOT, Block, Skipped, Wrong
from servers import configured

# Longer patterns first: a fencing token is a number as well.
MASKS = [
    (r"\b(?!(.)\1{31}\b)[0-9a-f]{32}\b", "<token>"),
    (r"\b[0-9a-f]{40}\b", "<sha1>"),
    (r"\b\d{16}\b", "<microseconds>"),
    (r"\b1\d{9}\.\d+\b", "<time>"),
    (r"\b(0?)1\d{12}\b", r"\1<milliseconds>"),
    (r"\(integer\) [1-9]\d{2,4}$", "(integer) <milliseconds>"),
    (r"\bpid \d+", "pid <pid>"),
    (r"(\"pid\": ?|\[pid\] => |pid=|\"p\":)\d+", r"\1<pid>"),
    (r"\b\d+(\.\d+)? ?(s|ms|µs)\b", "<duration>"),
    (r"\b(web\d) +\d+ ", r"\1 <pid> "),
    (r" {2,}", " "),
    (r"\b(PHP|version) \d+\.\d+\.\d+\S*", r"\1 <version>"),
    # What a server says with its refusal is its own affair; what this extension says to it follows in brackets.
    (r"\b(OOM|READONLY|WRONGTYPE|NOPERM|WRONGPASS|MISCONF|BUSY|LOADING|CLUSTERDOWN) [^(]*\((?!stop)", r"\1 <words> ("),
    (r"\bMISCONF .* \((?=the server cannot save)", "MISCONF <words> ("),
    (r"(127\.0\.0\.1|10\.0\.0\.\d):[3-6]\d{4}\b", r"\1:<port>"),
]


def masked(text: str) -> list[str]:
    text = text.strip("\n")
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text, flags=re.M)
    return [line.rstrip() for line in text.split("\n")]


class Runner:
    def __init__(self, host: Host, elsewhere: Elsewhere, write: bool) -> None:
        self.host, self.elsewhere, self.write = host, elsewhere, write
        self.rewritten: dict[Path, list[tuple[Block, str]]] = {}

    def run(self, block: Block) -> None:
        """Raises Wrong when it does not do what the page says."""
        kind = block.kind
        how = getattr(self, f"run_{kind.replace('.', '_')}", None)
        if how is None:
            raise Wrong(f"{block.place}: nobody knows how to run \"{block.kind}\"" if block.kind else
                        f"{block.place}: the block does not say what it is")
        LOG.unlink(missing_ok=True)
        if name := block.options.get("ini"):
            self.host.settings("30-page.ini", (Path(__file__).parent / "fixtures/ini" / f"{name}.ini").read_text())
        if name := block.options.get("given"):
            done = self.host.execute("php", str(Path(__file__).parent / "fixtures/given" / f"{name}.php"))
            if done.returncode == 77:
                raise Skipped(f"{block.place}: {name} takes root")
            if done.returncode or done.stdout:
                raise Wrong(f"{block.place}: given={name}: {done.stdout}")
        if what := block.options.get("held"):
            self.host.hold(what, float(block.options["for"]) if "for" in block.options else None)
        try:
            how(block)
        finally:
            self.host.let_go()

    # ---- the kinds -----------------------------------------------------------------------------------------------

    def run_php(self, block: Block) -> None:
        self._php(block, block.text)

    def run_diff(self, block: Block) -> None:
        """The lines before, and the lines after; the output is the latter's."""
        lines = block.text.split("\n")
        for omitted in "+-":
            text = "\n".join(line[1:] for line in lines if not line.startswith(omitted))
            self._php(block, text, judged=omitted == "-")

    def _php(self, block: Block, text: str, judged: bool = True) -> None:
        script = SITE / block.options.get("file", "example.php")
        start = "" if text.startswith("<?php") else "<?php "
        script.write_text(f"{start}{text}\n")
        done = self.host.execute(*self._injected(block), "php", str(script))
        if judged:
            self._judge(block, done.stdout, done.returncode)
        elif done.returncode:
            raise Wrong(f"{block.place}: {done.stdout}")

    def _injected(self, block: Block) -> list[str]:
        """A system call that fails, where no real fault can be had: what stands in front of the command."""
        call = block.options.get("inject")
        if call is None:
            return []
        strace = ["strace", "-qq", "-o", "/dev/null", "-e"]
        if self.host.execute(*strace, "trace=none", "true").returncode:
            raise Skipped(f"{block.place}: no process may be traced here")
        return [*strace, f"trace={call.partition(':')[0]}", "-e", f"inject={call}"]

    def run_ini(self, block: Block) -> None:
        """As it stands; then with each setting that is commented out in the place of its namesake."""
        if block.output or block.log:
            self.host.settings("30-page.ini", block.text + "\n")
            done = self.host.execute("php", "-r", "")
            self._judge(block, done.stdout, done.returncode)
            return
        commented = [line[1:] for line in block.text.split("\n") if re.match(r";\s*[a-z_]+\.[a-z_]+ *=", line)]
        for more in [*commented, None]:
            text = block.text if more is None else f"{block.text}\n{more}"
            # The name under which the extension is installed; here it is loaded already.
            self.host.settings("30-page.ini", re.sub(r"^extension *= *cluster_lock$", "", text, flags=re.M) + "\n")
            done = self.host.execute("php", str(Path(__file__).parent / "fixtures/settings.php"),
                                      str(self.host.conf / "30-page.ini"))
            if done.returncode or done.stdout:
                raise Wrong(f"{block.place}: {done.stdout}")
        if "apply" not in block.options:
            (self.host.conf / "30-page.ini").unlink()

    def run_sh(self, block: Block) -> None:
        lines = [line for line in re.sub(r"\\\n\s*", "", block.text).split("\n")]
        here = []
        for line in lines:
            command = re.sub(r"\s+#.*", "", line).strip()
            if command and not command.startswith("#") and not self.elsewhere.covers(block, command):
                here.append(line)
        if any(line.strip() for line in here):
            done = self.host.execute("bash", "-euo", "pipefail", "-c", "\n".join(here), cwd=ROOT)
            self._judge(block, done.stdout, done.returncode, quiet=False)
        elif block.output:
            raise Wrong(f"{block.place}: the output of what is run elsewhere cannot be compared")

    def run_log(self, block: Block) -> None:
        """What a script of the fixtures leaves in the log."""
        self.host.execute("php", str(Path(__file__).parent / "fixtures/by" / f"{block.options['by']}.php"))
        self._compare(block, self._logged())

    def run_output(self, block: Block) -> None:
        """What a script of the fixtures prints."""
        script = Path(__file__).parent / "fixtures/by" / f"{block.options['by']}.php"
        self._compare(block, self.host.execute("php", str(script)).stdout)

    def run_console(self, block: Block) -> None:
        """All in one shell, so that one command can prepare the next. Of what is run elsewhere the output is a record."""
        commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.M)
        if not commands:
            raise Wrong(f"{block.place}: no line begins with \"$ \"")
        covered = [self.elsewhere.covers(block, command) for command in commands]
        if all(covered):
            return
        if any(covered):
            raise Wrong(f"{block.place}: run all of it here, or nothing")
        script = "\n".join(f"{command}\nprintf '\\0'" for command in commands)
        cwd = ROOT if block.options.get("at") == "repository" else SITE
        printed = self.host.execute("bash", "-c", script, cwd=cwd).stdout.split("\0")
        shown = [part for command, said in zip(commands, printed, strict=False)
                 for part in (f"$ {command}", said.rstrip("\n")) if part]
        self._compare(block, "\n".join(shown))

    def run_redis(self, block: Block) -> None:
        lines = block.text.split("\n")
        if not any(line.startswith("> ") for line in lines):
            for line in filter(None, lines):
                self._redis(block, line)
            return
        shown = []
        for line in lines:
            if line.startswith("> "):
                shown.append(line)
                shown.append(self._redis(block, line[2:], refused=True))
        self._compare(block, "\n".join(shown))

    def _redis(self, block: Block, line: str, refused: bool = False) -> str:
        words = shlex.split(line.replace("\\x", "\\\\x"))
        # What is for sentinels only.
        at = self.host.sentinel() if "+sentinel|" in line else []
        reply = self.host.execute("redis-cli", "--no-raw", *at, *words).stdout.rstrip("\n")
        if reply.startswith("(error)") and not refused:
            raise Wrong(f"{block.place}: {line}: {reply}")
        return reply

    def run_conf(self, block: Block) -> None:
        """Lines for a pool of php-fpm."""
        self.host.pool(block.text)
        done = self.host.execute(self.host.fpm, "-R", "-t", "-y", str(self.host.pool_file))
        if "test is successful" not in done.stdout:
            raise Wrong(f"{block.place}: {done.stdout}")

    def run_redis_conf(self, block: Block) -> None:
        """redis-server starts with it."""
        self.host.end()
        Path("/srv/tls/users.acl").write_text("user default on nopass ~* &* +@all\n")
        said = configured(block.text, MINE)
        if "Ready to accept connections" not in said:
            raise Wrong(f"{block.place}: {said}")

    @staticmethod
    def run_text(block: Block) -> None:
        """No command: a description, which the test that it names compares with what is."""
        test = ROOT / block.options.get("tested", "nothing")
        if not test.is_file() or block.page.name not in test.read_text():
            raise Wrong(f"{block.place}: no test looks at it (tested=…)")

    @staticmethod
    def run_yaml(block: Block) -> None:
        """Only whether it is YAML: who shows it tests what it says."""
        yaml.safe_load(block.text)

    # ---- what came of it -----------------------------------------------------------------------------------------

    def _judge(self, block: Block, printed: str, code: int, quiet: bool = True) -> None:
        if block.output:
            self._compare(block.output, printed)
        elif code or (quiet and printed):
            raise Wrong(f"{block.place}: exit code {code}\n{printed}")
        if block.log:
            self._compare(block.log, self._logged())

    @staticmethod
    def _logged() -> str:
        """PHP's error log without its dates."""
        return re.sub(r"^\[[^\]]*\] ", "", LOG.read_text(), flags=re.M) if LOG.exists() else ""

    def _compare(self, block: Block, real: str) -> None:
        if masked(block.text) == masked(real):
            return
        # What nobody means to show: a slip in the page, or an extension that is older than the page.
        if self.write and not re.search(r"(undefined function|Parse error|Undefined (variable|array))", real):
            self.rewritten.setdefault(block.page, []).append((block, real.strip("\n")))
            return
        kept = difflib.unified_diff(masked(block.text), masked(real), "the page", "what is", lineterm="")
        raise Wrong(f"{block.place}: it is not what the page says\n" + "\n".join(kept))

    def rewrite(self) -> None:
        """With --write: the pages get what there really is."""
        for path, changes in self.rewritten.items():
            lines = path.read_text().split("\n")
            for block, real in sorted(changes, key=lambda change: -change[0].line):
                lines[block.line:block.line + block.text.count("\n") + 1 if block.text else block.line] = \
                    real.split("\n")
            path.write_text("\n".join(lines))
