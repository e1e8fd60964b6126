#!/usr/bin/env python3
"""Adds up ctest's and pytest's JUnit reports and prints `N passed, N failed, N skipped`; exits 1 unless all is well.

A part of `make test` that failed without a failed test of its own (a build, the format, the linter) counts as one
failure, so that the line never says that all passed when something did not.
"""

import argparse
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case: ElementTree.Element) -> str:
    """passed, failed or skipped. A test that could not start is a failure, as it is to ctest."""
    skip = case.find("skipped")
    if case.get("status") is None:  # pytest's
        if case.find("failure") is not None or case.find("error") is not None:
            return "failed"
        return "passed" if skip is None else "skipped"
    if case.get("status") == "run":
        return "passed"
    return "skipped" if skip is not None and skip.get("message", "").startswith("SKIP") else "failed"


def count(report: pathlib.Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of one report."""
    outcomes = [outcome(case) for case in ElementTree.parse(report).getroot().iter("testcase")]
    return outcomes.count("passed"), outcomes.count("failed"), outcomes.count("skipped")


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
