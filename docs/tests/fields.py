"""Blocks that list the fields of `cluster-lock … --json`, compared with what it prints.

    list, watch   {server, time, truncated, locks: [LOCK…]}
    LOCK          {name, mode: "exclusive"|"shared", holders: [{node, pid}…]}
"""

from __future__ import annotations

import json
import re

from pages import Block, Wrong
from stand import Stand

LOCK = "theme-css"
# The commands that print something while somebody holds a lock; `watch` needs a terminal and says what `list` says.
COMMANDS = {
    "list": ["list"], "info": ["info", LOCK], "ping": ["ping", "--count", "2"], "status": ["status"],
    "metrics": ["metrics", "--per-lock", "1"], "break": ["break", "--yes", LOCK],
}


def described(text: str) -> dict[str, list[str]]:
    """The names in front, and the fields of each; those of a nested object are left to its name."""
    found: dict[str, list[str]] = {}
    for names, braces in re.findall(r"^([\w, ]+?) +(\{(?:[^\n]|\n +)*\})", text, re.M):
        outer, depth = "", 0
        for char in braces[1:-1]:
            depth += (char in "{[") - (char in "}]")
            outer += char if depth == 0 else ""
        fields = [re.match(r"\s*(\w+)", field)[1] for field in outer.split(",")]
        for name in names.split(","):
            found[name.strip()] = fields
    return found


def check(block: Block, stand: Stand) -> None:
    told = described(block.text)
    if unknown := COMMANDS.keys() - told.keys():
        raise Wrong(f"{block.place}: nothing on {', '.join(unknown)}")
    stand.hold(LOCK, None)
    for name, words in COMMANDS.items():
        real = json.loads(stand.execute("cluster-lock", *words, "--json").stdout)
        compare(block, name, told[name], real)
        for key, value in real.items():
            first = value[0] if isinstance(value, list) else value
            if kind := {"locks": "LOCK", "per_lock": "LOCK", "lock": "LOCK", "before": "LOCK", "servers": "SERVER",
                        "round_trips": "SPREAD"}.get(key):
                if isinstance(first, dict):
                    compare(block, kind, told[kind], first)


def compare(block: Block, name: str, told: list[str], real: dict) -> None:
    if told != list(real):
        raise Wrong(f"{block.place}: {name} has the fields {', '.join(real)}, not {', '.join(told)}")
