#!/usr/bin/env python3
"""Lists where `blockmoe bench --sweep`'s time over its floor jumps from one T to the next; exits 1 where it does.

A jump is a change of `ratio` between neighbouring T by more than the limit: a rise, or a fall while the active experts stay the same.
A fall where experts come in is listed and is no jump: what a call costs beside its bytes is then spread over more of them. A T without
active experts is passed over: its floor is an empty launch. 2: the report is void, or has not two sizes to compare.
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
    pairs = [(after["ratio"] / before["ratio"] - 1, before, after) for before, after in zip(rows, rows[1:])]
    jumps = spread = 0
    for share, before, after in pairs:
        if abs(share) <= arguments.limit:
            continue
        is_spread = share < 0 and after["active_experts"] > before["active_experts"]
        spread += is_spread
        jumps += not is_spread
        what = "more experts" if is_spread else "JUMP"
        print(f"T {before['T']} to {after['T']}: {share:+.1%}, {what}: {shown(before)}, {shown(after)}")
    print(
        f"{len(rows)} sizes, T {rows[0]['T']} to {rows[-1]['T']}: {jumps} jumps above {arguments.limit:.1%},"
        f" {spread} falls as large where experts came in"
    )
    return 1 if jumps else 0


if __name__ == "__main__":
    sys.exit(main())
