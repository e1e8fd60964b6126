#!/usr/bin/env python3
"""Lists where `blockmoe bench --sweep`'s time over its floor jumps from one T to the next; exits 1 where it does.

A jump is a rise or a fall of `ratio` by more than the limit between neighbouring T. A T without active experts is passed over:
its floor is an empty launch. 2: the report is void, or has not two sizes to compare.
"""

import argparse
import json
import pathlib
import sys


def shown(row: dict) -> str:
    return f"{row['us']:.1f} us / {row['floor_us']:.1f} us = {row['ratio']:.3f} ({row['active_experts']} experts, {row['path']})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=pathlib.Path, help="the JSON of `blockmoe bench --sweep RANGE --json FILE`")
    parser.add_argument("--limit", type=float, default=0.05, help="largest change from one T to the next, as a share (0.05)")
    arguments = parser.parse_args()

    report = json.loads(arguments.report.read_text())
    rows = sorted((row for row in report["rows"] if row["active_experts"] > 0), key=lambda row: row["T"])
    if report["void"] or len(rows) < 2:
        print(f"{arguments.report}: " + ("a void run" if report["void"] else f"{len(rows)} sizes with an active expert, expected 2 or more"))
        return 2
    changes = [(after["ratio"] / before["ratio"] - 1, before, after) for before, after in zip(rows, rows[1:])]
    jumps = [change for change in changes if abs(change[0]) > arguments.limit]
    for share, before, after in jumps:
        print(f"T {before['T']} to {after['T']}: {share:+.1%}: {shown(before)}, {shown(after)}")
    largest = max(changes, key=lambda change: abs(change[0]))
    print(
        f"{len(rows)} sizes, T {rows[0]['T']} to {rows[-1]['T']}: {len(jumps)} jumps above {arguments.limit:.1%};"
        f" largest change {largest[0]:+.1%}, T {largest[1]['T']} to {largest[2]['T']}"
    )
    return 1 if jumps else 0


if __name__ == "__main__":
    sys.exit(main())
