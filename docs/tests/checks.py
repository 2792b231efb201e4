"""What is checked beside the blocks."""

from __future__ import annotations

import json
import re

import messages
from pages import ROOT, Page
from stand import Stand

CHANGEABLE = {"1": "`ini_set()`", "7": "anywhere", "4": "php.ini"}


def everything(pages: list[Page], host: Stand) -> list[str]:
    return messages.unexplained(pages) + settings(host) + indexed(pages)


def settings(host: Stand) -> list[str]:
    """docs/php-ini.md and README.md name exactly the settings that there are, with their defaults."""
    host.begin("none")
    real = json.loads(host.execute("php", "-r", "echo json_encode(ini_get_all('cluster_lock'));").stdout)
    rows = re.findall(r"^\| \[?`(cluster_lock\.\w+)`[^|]*\| *([^|]*?) *\| *([^|]*?) *\| *([^|]*?) *\|$",
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
