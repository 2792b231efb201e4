"""What is checked beside the blocks."""

from __future__ import annotations

import json
import re
import shutil
import textwrap

import messages
import yaml
from host import Host
from pages import ROOT, Page

MEASURED = ROOT / "docs/comparison.md"


def everything(pages: list[Page], host: Host, write: bool) -> list[str]:
    return messages.unexplained(pages) + settings(host) + indexed(pages) + measured(write) + alerts(host)


def settings(host: Host) -> list[str]:
    """docs/php-ini.md and README.md name exactly the settings that there are, with their defaults."""
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
        if name.partition(".")[2] not in (ROOT / "README.md").read_text():
            wrong.append(f"README.md does not have {name}")
        if f"\n## `{name}`" not in (ROOT / "docs/php-ini.md").read_text():
            wrong.append(f"docs/php-ini.md has no section on {name}")
    return wrong


def indexed(pages: list[Page]) -> list[str]:
    """Every page of docs/ can be reached from docs/README.md."""
    index = (ROOT / "docs/README.md").read_text()
    return [f"docs/README.md does not name {page.path.name}" for page in pages
            if page.path.parent == ROOT / "docs" and page.path.name != "README.md"
            and f"]({page.path.name}" not in index]


def measured(write: bool) -> list[str]:
    """The table of figures is that of the last complete run of script/bench."""
    results = json.loads((ROOT / "bench/results/latest.json").read_text())
    machine, results = results["machine"], results["results"]
    near = results["uncontended"]["places"]["tcp"]["contestants"]
    far = results["uncontended"]["places"]["delay"]["contestants"]
    waits = results["handoff"]["tcp"]["contestants"]

    def row(label: str, free: str, wait: str) -> str:
        def time(of: dict, name: str) -> str:
            if name not in of:
                return "–"
            us = of[name]["p50_us"]
            return f"{us:.0f} µs" if us >= 10 and us < 10000 else f"{us:.1f} µs" if us < 10 else f"{us / 1000:.0f} ms"

        return f"| {label} | {time(near, free)} | {time(far, free)} | {time(waits, wait)} |"

    pings = min(near[name]["p50_us"] for name in near if name.startswith("ping"))
    table = "\n".join([
        "| p50 | lock and unlock, nobody else, loopback | the same, 0.5 ms away | from unlock to the waiter's return |",
        "|---|--:|--:|--:|",
        row("**cluster_lock**", "cluster_lock", "cluster_lock"),
        row("`flock()`, local disk", "flock", "flock"),
        row("phpredis `SET NX EX`, script to delete", "phpredis_set", ""),
        row("the same with a fencing token", "phpredis_fence", ""),
        row("phpredis `BLPOP`, unfair", "", "phpredis_blpop"),
        row("symfony/lock, `RedisStore`", "symfony", "symfony"),
        row("php-lock/lock, `PHPRedisMutex`", "malkusch", "malkusch"),
        "",
        *textwrap.wrap(
            f"{machine['date'][:10]}, {machine['cpus']} × {machine['cpu']}, Linux {machine['kernel']}, PHP "
            f"{machine['php']}, Redis {machine['redis']}, symfony/lock {machine['symfony_lock']}, php-lock "
            f"{machine['php_lock']}; two PINGs take {pings:.0f} µs there. Everything: "
            "[`bench/results/latest.json`](../bench/results/latest.json), and how: "
            "[`bench/README.md`](../bench/README.md).", 116, break_on_hyphens=False, break_long_words=False),
    ])
    before, start, rest = MEASURED.read_text().partition("<!-- measured:start -->\n")
    _, end, after = rest.partition("<!-- measured:end -->")
    text = f"{before}{start}{table}\n{end}{after}"
    if text == MEASURED.read_text():
        return []
    if write:
        MEASURED.write_text(text)
        return []
    return ["docs/comparison.md: its figures are not those of bench/results/latest.json (script/test docs -- --write)"]


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
