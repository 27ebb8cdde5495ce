"""The page of what benchmarks found, from the documents that they printed.

    python -m benchmarks.planning --full --json > build/bench/planning.json
    python -m benchmarks.page build/bench/*.json --into docs/limits.md

In the order of the files. One without a document, whose benchmark did not run or failed, is named. `make
bench-limits` measures all of it at full size and writes the page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEAD = """# Near the limits of the hardware

What each benchmark printed, beside what bounds it in the same run: medians, with the lowest and highest in
brackets. Each section names its command; `make bench-limits` measures all of them at full size and writes the
page anew. [profile.md](profile.md) says where the time goes.

Not measured: GPUs, TPUs and machines with more than the cores named below; no figure of a GPU exists.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("documents", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="the page, written once all of it is known")
    options = parser.parse_args()
    made = page({file.stem: document(file) for file in options.documents})
    if options.into is None:
        print(made, end="")
    else:
        options.into.write_text(made)
    return 0


def document(file: Path) -> Mapping[str, Any] | None:
    """What a benchmark printed; None where that is no document."""
    try:
        found: Mapping[str, Any] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return found


def page(documents: Mapping[str, Mapping[str, Any] | None]) -> str:
    """Markdown: the head, then a section for each name."""
    sections = [
        f"Not measured: {name}.\n" if found is None else section(found) for name, found in documents.items()
    ]
    return "\n".join([HEAD, *sections])


def section(document: Mapping[str, Any]) -> str:
    """What was asked, how, on which machine, what it printed, and the bounds."""
    title = document["schema"].split("/")[0].removeprefix("bench-").capitalize()
    when = f"`{document['command']}`, {document['machine']}, {document['measured']}."
    lines = [
        f"## {title}",
        "",
        f"{document['asks']} {when}",
        "",
        "```text",
        *map(str.rstrip, document["lines"]),
        "```",
        "",
    ]
    if document["verdicts"]:
        lines += ["| bound | measured | wanted | |", "|---|---|---|---|"]
        lines += [row(verdict) for verdict in document["verdicts"]] + [""]
    return "\n".join(lines)


def row(verdict: Mapping[str, Any]) -> str:
    """Of the table of bounds."""
    sign = "≥" if verdict["at_least"] else "≤"
    held = "holds" if verdict["held"] else "**missed**"
    return f"| {verdict['what']} | {verdict['value']:.4g} | {sign} {verdict['wanted']:g} | {held} |"


if __name__ == "__main__":
    sys.exit(main())
