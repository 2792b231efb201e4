"""Commands of the pages that are not run here, because they install into the machine, need a bare one, or take long:
by what they are run instead. Who is named here has to be there."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pages import ROOT, Block, Wrong


@dataclass(frozen=True)
class Cover:
    command: str
    """A regular expression for the whole command."""
    by: str
    """A script of this repository with its arguments. Its steps, or tests, must be of those that it lists."""


COVERS = [
    Cover(r"script/bootstrap && script/build", "script/test bootstrap build"),
    Cover(r"script/bootstrap", "script/test bootstrap"),
    Cover(r"script/build( --cli)?", "script/test build"),
    Cover(r"script/demo", "script/demo --help"),
    Cover(r"script/test", "script/test --list"),
    Cover(r"script/package( --test| --check-release)?", "script/package --list"),
    Cover(r"script/package debs", "script/package --test debs"),
    Cover(r"script/package binary", "script/package --test pie"),
    Cover(r"php=/usr/bin/php\S+", "script/package --test install"),
    Cover(r"tar -xzf php_cluster_lock-\*_php\S+-glibc-nts\.tgz cluster_lock\.so", "script/package --test install"),
    Cover(r"""sudo install -m 644 cluster_lock\.so "\$\(\$php -r 'echo ini_get\("extension_dir"\);'\)/\"""",
          "script/package --test install"),
    Cover(r"""dir=\$\(php -r 'echo ini_get\("extension_dir"\);'\)""", "script/package --test install"),
    Cover(r"""sudo install -m 644 cluster_lock\.so "\$dir/cluster_lock\.so\.new" && """
          r"""sudo mv "\$dir/cluster_lock\.so\.new" "\$dir/cluster_lock\.so\"""", "script/package --test install"),
    Cover(r"sudo tar -xzf cluster-lock-\*-\S+-glibc\.tar\.gz -C /usr/local --strip-components=1 --no-same-owner",
          "script/package --test install"),
    # The same with Alpine's names. No more than the names of the files is tested.
    Cover(r"tar -xzf php_cluster_lock-\*_php\S+-musl-nts\.tgz cluster_lock\.so", "script/package --test binary"),
    Cover(r"""install -m 644 cluster_lock\.so "\$\(php84 -r 'echo ini_get\("extension_dir"\);'\)/\"""",
          "script/package --test binary"),
    Cover(r"apk add libgcc", "script/package --test binary"),
    Cover(r"sudo apt-get install \./(target/packages/)?cluster-lock\*\.deb", "script/package --test install"),
    Cover(r"sudo apt-get purge 'cluster-lock\*'", "script/package --test install"),
    Cover(r"pie \S+ .*", "script/package --test pie"),
    Cover(r"cd packaging/pie && phpize && \./configure && make && make test && sudo make install",
          "script/package --test phpize"),
    Cover(r"cargo php install --release --yes", "script/package --test cargo-php"),
    Cover(r"docker build -f packaging/docker/Dockerfile .*", "script/package --test dockerfile"),
    # It takes the half minute that it says: the command's own tests use less.
    Cover(r"cluster-lock run --no-wait --at-least 30 import -- /usr/local/bin/import", "script/test core"),
    Cover(r"composer require cluster-lock/symfony-lock", "script/test symfony"),
    Cover(r"composer require cluster-lock/polyfill", "script/test polyfill"),
    Cover(r"wp (cluster-lock|option|network) .*", "script/test plugin"),
    Cover(r"script/test docs( -- .*)?", "script/test docs"),
]


class Elsewhere:
    def __init__(self) -> None:
        self.used: dict[Cover, list[str]] = {}

    def covers(self, block: Block, command: str) -> bool:
        for cover in COVERS:
            if re.fullmatch(cover.command, command):
                if cover not in self.used:
                    self._check(block, cover)
                self.used.setdefault(cover, []).append(f"{block.place}: {command}")
                return True
        return False

    def _check(self, block: Block, cover: Cover) -> None:
        script, *arguments = cover.by.split()
        path = ROOT / script
        if not path.is_file():
            raise Wrong(f"{block.place}: {cover.command} is said to be run by {script}, which is not there")
        known = re.findall(r'^    "([\w-]+)\|', path.read_text(), re.M)
        for name in (word for word in arguments if not word.startswith("-")):
            if name not in known:
                raise Wrong(f"{block.place}: {script} has no {name}")

    @staticmethod
    def run(commands: list[str]) -> bool:
        """With --all: what the pages leave to others, here and now."""
        done = True
        for command in commands:
            print(f"   {command}", flush=True)
            done &= subprocess.run(["bash", "-c", command], cwd=ROOT, check=False).returncode == 0
        return done
