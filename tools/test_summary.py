#!/usr/bin/env python3
"""Adds up ctest's JUnit reports and prints `N passed, N failed, N skipped`; exits 1 unless all is well.

A part of `make test` that failed without a failed test of its own (a build, the format, the linter) counts as one
failure, so that the line never says that all passed when something did not.
"""

import argparse
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def count(report: pathlib.Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of one report. A test that could not start is a failure, as it is to ctest."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.get("status") == "run":
            passed += 1
        elif skip is not None and skip.get("message", "").startswith("SKIP"):
            skipped += 1
        else:
            failed += 1
    return passed, failed, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=pathlib.Path, nargs="*")
    parser.add_argument("--failed-parts", type=int, default=0, help="parts of `make test` that exited with an error")
    arguments = parser.parse_args()

    total = [0, 0, 0]
    for report in arguments.reports:
        if report.exists():
            total = [sum(pair) for pair in zip(total, count(report))]
    passed, failed, skipped = total
    failed = max(failed, arguments.failed_parts)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed > 0 and failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
