"""Which wheels tools/check_wheel.py lets through."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from check_wheel import faults  # noqa: E402


class CheckWheel(unittest.TestCase):
    def faults_of(self, tags: str, size: int = 1000) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, f"blockmoe-0.1.0-{tags}.whl")
            with file.open("wb") as wheel:
                wheel.truncate(size)
            return faults(file)

    def test_an_old_tag_passes(self):
        self.assertEqual(self.faults_of("py3-none-manylinux_2_34_x86_64"), [])
        self.assertEqual(self.faults_of("py3-none-manylinux_2_35_x86_64"), [])

    def test_the_oldest_of_two_tags_counts(self):
        self.assertEqual(self.faults_of("py3-none-manylinux_2_28_x86_64.manylinux_2_39_x86_64"), [])

    def test_a_newer_tag_or_none_fails(self):
        expected = "expected manylinux_2_35 or older"
        self.assertIn(expected, self.faults_of("py3-none-manylinux_2_36_x86_64")[0])
        self.assertIn(expected, self.faults_of("py3-none-linux_x86_64")[0])

    def test_a_wheel_of_one_python_fails(self):
        self.assertEqual(self.faults_of("cp311-cp311-manylinux_2_34_x86_64"), ["for one Python alone, expected py3-none"])

    def test_a_large_wheel_fails(self):
        self.assertEqual(self.faults_of("py3-none-manylinux_2_34_x86_64", 20_000_000), ["20.0 MB, expected less than 20"])


if __name__ == "__main__":
    unittest.main()
