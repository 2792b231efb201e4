"""WordPress: processes on both nodes put their markers into one .htaccess by insert_with_markers(), at once.

Arguments: version=4.1 variants=none,flock,intercept-gate markers=40 per_node=2
"""

from __future__ import annotations

import re

from lab import EXPORT, NODES, Php, arguments, mounted, now, path, record


def main() -> None:
    given = arguments()
    version, markers, per_node = given["version"], int(given["markers"]), int(given.get("per_node", 2))
    with mounted(version):
        for variant in given["variants"].split(","):
            name = f"htaccess.{variant}"
            (EXPORT / name).write_text("# the site's own\n")
            ini = {"disable_functions": "flock"} if variant == "none" else {}
            processes = [Php(node, "wordpress", variant, ini=ini, path=path(node, version, name), number=i, markers=markers)
                         for i in range(per_node) for node in NODES]
            for process in processes:
                process.hear()
            began = now()
            for process in processes:
                process.tell("go")
            not_ours = 0
            for process in processes:
                not_ours += process.hear(120)["not_ours"]
                process.finish()
            seconds = (now() - began) / 1e9
            text = (EXPORT / name).read_text(errors="replace")
            # Whole blocks: the line between the two marks belongs to them.
            whole = {block for block in re.findall(r"^# BEGIN (\S+)\n(?:# .*\n)*Redirect /\1 /\n# END \1$", text, re.M)}
            expected = len(processes) * markers
            record("wordpress", version=version, variant=variant, expected=expected, lost=expected - len(whole),
                   head_kept=text.startswith("# the site's own\n"), not_ours=not_ours, seconds=round(seconds, 1))


main()
