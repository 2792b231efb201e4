"""Coherence: both nodes change one file many times, under a lock. Was an update lost, or something old or torn read?

Arguments: versions=4.0,4.1,4.2 variants=naive,gate idioms=kept-open,... steps=1000 (of each node; fewer for put-append)
"""

from __future__ import annotations

from lab import EXPORT, NODES, Php, arguments, mounted, now, path, record

LINE = 16


def first_number(text: bytes) -> int:
    return int(text[:8])


def lines(text: bytes) -> int:
    """Only whole lines that nobody else has."""
    return len({text[i:i + LINE] for i in range(0, len(text), LINE) if text[i:i + LINE].endswith(b"-----\n")})


# name: (class, the file at the start, what the file says of the number of updates, the same for both nodes)
IDIOMS = {
    "open-each": ("OpenEach", b"00000000", first_number),
    "kept-open": ("KeptOpen", b"00000000", first_number),
    "kept-open-r+": ("KeptOpenExisting", b"00000000", first_number),
    "growing-log": ("GrowingLog", b"", lines),
    "resized-record": ("ResizedRecord", b"00000000 00000000  END\n", first_number),
    "buffered-rewind": ("BufferedRewind", b"--------00000000", lambda text: int(text[8:16])),
    "buffered-seek": ("BufferedSeek", b"--------00000000", lambda text: int(text[8:16])),
    "put-append": ("PutAppend", b"", lines),
    "shared-reader": ("SharedReader", b"00000000", first_number),
}


def measure(version: str, variant: str, idiom: str, steps: int) -> dict:
    program, start, updates = IDIOMS[idiom]
    name = f"coherence.{version}.{variant}.{idiom}"
    (EXPORT / name).write_bytes(start)
    processes = [Php(node, "coherence", variant, idiom=program, path=path(node, version, name), name=name, steps=steps)
                 for node in NODES]
    for process in processes:
        process.hear()
    began = now()
    for process in processes:
        process.tell("go")
    reports = [process.hear(240) for process in processes]
    seconds = (now() - began) / 1e9
    for process in processes:
        process.finish()
    expected = steps if idiom == "shared-reader" else 2 * steps
    return {"expected": expected, "lost": expected - updates((EXPORT / name).read_bytes()),
            "wrong_reads": sum(report["wrong_reads"] for report in reports), "not_ours": sum(report["not_ours"] for report in reports), "seconds": round(seconds, 1),
            "example": next((report["example"] for report in reports if report["example"]), "")}


def main() -> None:
    given = arguments()
    for version in given["versions"].split(","):
        with mounted(version):
            for idiom in given["idioms"].split(","):
                for variant in given["variants"].split(","):
                    steps = int(given["steps"])
                    if idiom == "put-append":
                        steps = min(steps, int(given.get("put_steps", steps)))
                    record("coherence", version=version, idiom=idiom, variant=variant,
                           **measure(version, variant, idiom, steps))


main()
