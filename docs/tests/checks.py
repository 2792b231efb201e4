"""What is checked beside the blocks."""

from __future__ import annotations

import json
import re
import shutil

import figures
import messages
import yaml
from host import Host
from pages import ROOT, Page, anchor, broken_links, read

# For those who work on the project: their blocks are run by nobody, their links have to lead somewhere.
PAPERS = ("*.md", "bench/README.md", "core/**/README.md", "docs/tests/README.md", "lab/**/README.md",
          "php-tests/README.md", "packages/wordpress/README.md", "packages/wordpress/stand/README.md")


def everything(pages: list[Page], host: Host, write: bool) -> list[str]:
    return (messages.unexplained(pages) + settings(host) + indexed(pages) + papers(pages) + figures.stale(write)
            + alerts(host))


def settings(host: Host) -> list[str]:
    """docs/php-ini.md names exactly the settings that there are, with their defaults."""
    host.begin("none")
    real = json.loads(host.execute("php", "-r", "echo json_encode(ini_get_all('cluster_lock'));").stdout)
    rows = re.findall(r"^\| \[`(cluster_lock\.\w+)`[^|]*\| *([^|]*?) *\| *([^|]*?) *\| *([^|]*?) *\|$",
                      (ROOT / "docs/php-ini.md").read_text(), re.M)
    told = {name: (default.strip("`"), where) for name, default, _, where in rows}
    wrong = [f"docs/php-ini.md does not have {name}" for name in real if name not in told]
    for name, (default, where) in told.items():
        if name not in real:
            wrong.append(f"docs/php-ini.md has {name}, which there is not")
        elif real[name]["global_value"] != default:
            wrong.append(f"docs/php-ini.md: {name} is \"{real[name]['global_value']}\" by default, not \"{default}\"")
        elif where != ("anywhere" if real[name]["access"] == 7 else "php.ini"):
            wrong.append(f"docs/php-ini.md: {name} is not to be set in \"{where}\"")
    for name in real:
        if f"\n## `{name}`" not in (ROOT / "docs/php-ini.md").read_text():
            wrong.append(f"docs/php-ini.md has no section on {name}")
    return wrong


def indexed(pages: list[Page]) -> list[str]:
    """Every page of docs/ can be reached from docs/README.md."""
    index = (ROOT / "docs/README.md").read_text()
    return [f"docs/README.md does not name {page.path.name}" for page in pages
            if page.path.parent == ROOT / "docs" and page.path.name != "README.md"
            and f"]({page.path.name}" not in index]


def papers(pages: list[Page]) -> list[str]:
    """The links of what is no page, and that DESIGN.md's index has each of its questions."""
    run = {page.path for page in pages}
    wrong = [link for glob in PAPERS for path in sorted(ROOT.glob(glob)) if path not in run
             for link in broken_links(read(path))]
    index, *sections = re.split(r"^## ", (ROOT / "DESIGN.md").read_text(), flags=re.M)
    questions = [question for section in sections for question in re.findall(r"^### (.*)$", section, re.M)]
    return wrong + [f"DESIGN.md: its index does not have \"{question}\"" for question in questions
                    if f"(#{anchor(question)})" not in index]


def alerts(host: Host) -> list[str]:
    """The rules are such, speak of series that there are, and docs/operations.md has each of them."""
    rules = yaml.safe_load((ROOT / "docs/alerts.yml").read_text())["groups"][0]["rules"]
    host.begin("redis")
    host.hold("theme-css", None)
    said = host.execute("cluster-lock", "metrics", "--per-lock", "1").stdout
    series = set(re.findall(r"^(cluster_lock_\w+)", said, re.M))
    host.let_go()
    guide = (ROOT / "docs/operations.md").read_text()
    wrong = []
    for rule in rules:
        if not series.issuperset(named := set(re.findall(r"\bcluster_lock_\w+", rule["expr"]))):
            wrong.append(f"docs/alerts.yml: {rule['alert']}: there is no {', '.join(named - series)}")
        if f"`{rule['alert']}`" not in guide:
            wrong.append(f"docs/operations.md does not have the alert {rule['alert']}")
    if promtool := shutil.which("promtool"):
        done = host.execute(promtool, "check", "rules", str(ROOT / "docs/alerts.yml"))
        if done.returncode:
            wrong.append(done.stdout)
    return wrong
