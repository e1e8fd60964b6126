"""What tools/test_summary.py counts of ctest's and of pytest's reports."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

CTEST = """<testsuite>
<testcase name="a" status="run"/>
<testcase name="b" status="fail"><failure message=""/></testcase>
<testcase name="c" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/></testcase>
<testcase name="d" status="notrun"><skipped message="Unable to find executable"/></testcase>
</testsuite>"""
PYTEST = """<testsuites><testsuite name="pytest">
<testcase name="a" time="0.1"/>
<testcase name="b"><failure message="assert 0">trace</failure></testcase>
<testcase name="c"><error message="fixture">trace</error></testcase>
<testcase name="d"><skipped type="pytest.skip" message="no CUDA device"/></testcase>
</testsuite></testsuites>"""
PASSED = '<testsuite><testcase name="a"/></testsuite>'


class TestSummary(unittest.TestCase):
    def summary(self, *reports: str, options: tuple[str, ...] = ()) -> tuple[str, int]:
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder, f"{number}.xml") for number in range(len(reports))]
            for file, report in zip(files, reports):
                file.write_text(report)
            command = [sys.executable, ROOT / "tools/test_summary.py", *options, *files, pathlib.Path(folder, "absent.xml")]
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.stdout, ended.returncode

    def test_ctests_report(self):
        self.assertEqual(self.summary(CTEST), ("1 passed, 2 failed, 1 skipped\n", 1))

    def test_pytests_report(self):
        self.assertEqual(self.summary(PYTEST), ("1 passed, 2 failed, 1 skipped\n", 1))

    def test_both_are_added(self):
        self.assertEqual(self.summary(CTEST, PYTEST), ("2 passed, 4 failed, 2 skipped\n", 1))

    def test_all_passed(self):
        self.assertEqual(self.summary(PASSED), ("1 passed, 0 failed, 0 skipped\n", 0))

    def test_a_part_without_a_failed_test_of_its_own_fails(self):
        self.assertEqual(self.summary(PASSED, options=("--failed-parts", "1")), ("1 passed, 1 failed, 0 skipped\n", 1))


if __name__ == "__main__":
    unittest.main()
