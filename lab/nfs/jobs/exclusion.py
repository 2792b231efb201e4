"""Exclusion: whoever holds a file by cluster_flock(), intercepted flock() or cluster_file_put_contents(LOCK_EX) on one
node keeps out those who ask by any of the three on the other.

Arguments: versions=4.0,4.1 modes=gate,replace
"""

from __future__ import annotations

from lab import Php, arguments, excludes, mounted, path, record

KINDS = ("cluster_flock", "flock", "put")


def main() -> None:
    given = arguments()
    for version in given["versions"].split(","):
        with mounted(version):
            for mode in given["modes"].split(","):
                name = f"exclusion.{version}.{mode}"
                holders, askers = ({kind: Php(node, "exclusion", f"intercept-{mode}", kind=kind, path=path(node, version, name))
                                    for kind in KINDS} for node in ("a", "b"))
                for process in (*holders.values(), *askers.values()):
                    process.hear()
                for held, holder in holders.items():
                    for asked, asker in askers.items():
                        waited, after_ms, _ = excludes(holder, asker)
                        record("exclusion", version=version, mode=mode, holder=held, asker=asked, excluded=waited,
                               after_ms=round(after_ms, 2))
                for process in (*holders.values(), *askers.values()):
                    process.finish()


main()
