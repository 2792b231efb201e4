#!/usr/bin/env python3
"""third-party.py TREE: the licences of the crates that are linked into what is built from TREE.

Their texts have to go with every binary. Build scripts, procedural macros and what only tests use are not part of it.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

OURS = ("cluster-lock", "cluster-lock-cli")
TEXT = re.compile(r"^(licen[cs]e|copying|notice|unlicense)", re.IGNORECASE)


def metadata(tree):
    host = re.search(r"^host: (\S+)", subprocess.run(
        ["rustc", "-vV"], capture_output=True, text=True, check=True).stdout, re.MULTILINE)[1]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, check=True).stdout)


def linked(data):
    """The packages that ours reach by ordinary dependencies."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    todo = [identity for identity, package in packages.items() if package["name"] in OURS]
    seen = set(todo)
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            identity = dependency["pkg"]
            is_macro = any("proc-macro" in target["kind"] for target in packages[identity]["targets"])
            ordinary = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if ordinary and not is_macro and identity not in seen:
                seen.add(identity)
                todo.append(identity)
    return sorted((packages[identity] for identity in seen if packages[identity]["source"]),
                  key=lambda package: (package["name"], package["version"]))


def main():
    # Most texts are the same but for a name: each is printed once, with the crates that it belongs to.
    texts = {}
    print("cluster_lock contains these crates:\n")
    for package in linked(metadata(sys.argv[1])):
        title = f"{package['name']} {package['version']}"
        print(f"  {title}: {package['license'] or 'see its text'}")
        for file in sorted(Path(package["manifest_path"]).parent.iterdir()):
            if TEXT.match(file.name) and file.is_file():
                texts.setdefault(file.read_text(encoding="utf-8", errors="replace").strip(), []).append(title)
    for text, titles in texts.items():
        print(f"\n{'=' * 100}\n{', '.join(titles)}\n{'=' * 100}\n\n{text}")


main()
