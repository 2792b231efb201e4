"""Delegation: B has a read delegation on a file, A opens it for writing, locks, writes, closes. Reported, no claim.

Arguments: version=4.1 variants=flock,gate trials=10
"""

from __future__ import annotations

import time
from pathlib import Path

from lab import EXPORT, Php, arguments, mounted, p50, path, record


def delegations(name: str) -> int:
    """How many the server has given out for the file."""
    return sum(1 for states in Path("/proc/fs/nfsd/clients").glob("*/states")
               for line in states.read_text().splitlines() if "type: deleg" in line and f"/{name}\"" in line)


def main() -> None:
    given = arguments()
    version = given["version"]
    with mounted(version):
        time.sleep(1)  # the server gives delegations only after it has probed the way back to the client
        for variant in given["variants"].split(","):
            writer, reader = Php("a", "delegation", variant), Php("b", "delegation", variant)
            writer.hear(), reader.hear()
            taken, opens, alls = 0, [], []
            for i in range(int(given["trials"])):
                name = f"delegation.{variant}.{i}"  # a new file: after a recall the server gives none for a while
                (EXPORT / name).write_text("old\n")
                reader.tell(f"open {path('b', version, name)} {name}")
                reader.hear()
                held = delegations(name) > 0
                writer.tell(f"change {path('a', version, name)} {name}")
                times = writer.hear()
                if held:
                    taken += 1
                    opens.append(times["open_ms"])
                    alls.append(times["all_ms"])
            writer.finish()
            reader.finish()
            record("delegation", version=version, variant=variant, delegated=taken,
                   open_p50_ms=p50(opens) if opens else None, all_p50_ms=p50(alls) if alls else None)


main()
