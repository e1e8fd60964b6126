"""`make bench` without a GPU: that it says so, what it would run, and what a step that fails costs."""

import contextlib
import io
import pathlib
import shlex
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/peers"))

import bench  # noqa: E402: found beside the sources
import compare  # noqa: E402


class Benching(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def main(self, *options: str) -> int:
        self.said = io.StringIO()
        with contextlib.redirect_stdout(self.said):
            return bench.main(["--build", str(self.folder / "build"), "--work", str(self.folder / "work"), *options])

    def run_steps(self, *steps: bench.Step) -> int:
        self.said = io.StringIO()
        with contextlib.redirect_stderr(self.said):
            return bench.run(list(steps))

    def touch(self, name: str, **how: bool) -> bench.Step:
        made = self.folder / name
        return bench.Step(name, [sys.executable, "-c", f"import pathlib; pathlib.Path({str(made)!r}).touch()"], **how)

    fails = bench.Step("what fails", [sys.executable, "-c", "raise SystemExit(3)"])

    def test_without_a_gpu_it_says_so_and_nothing_is_wrong(self) -> None:
        with mock.patch.object(bench, "need_gpu", side_effect=bench.CannotRun("no NVIDIA GPU on this machine")):
            self.assertEqual(self.main(), 0)
            self.assertEqual(self.said.getvalue(), "SKIPPED: no NVIDIA GPU on this machine\n")
            self.assertEqual(self.main("--available"), 1)
        self.assertFalse((self.folder / "work").exists())

    def test_a_dry_run_ends_with_comparison_stages_and_report(self) -> None:
        self.main("--dry-run", "--commit", "abc1234", "--", "--tokens", "16")
        lines = self.said.getvalue().splitlines()
        self.assertEqual(
            [line[2:] for line in lines if line.startswith("# ")][-4:], ["ceilings", "comparison", "stages", "report"]
        )
        command = shlex.split(lines[lines.index("# comparison") + 1])
        given = compare.parse(command[2:])
        self.assertEqual((given.tokens, given.commit), ([16], "abc1234"))
        self.assertIn(f"sglang_triton={self.folder.resolve() / 'work/sglang'}", given.site)
        self.assertFalse((self.folder / "work").exists())

    def test_every_requirements_file_is_installed_and_every_folder_is_some_peers(self) -> None:
        files = {path.stem for path in (ROOT / "bench/peers/requirements").glob("*.txt")}
        self.assertEqual(files, {"base", *bench.SITES})
        self.assertEqual({folder for folders in bench.FOLDERS_OF.values() for folder in folders}, set(bench.SITES))
        self.assertLessEqual(set(bench.FOLDERS_OF), set(compare.NAMES))

    def test_what_is_made_is_not_made_again(self) -> None:
        made = self.folder / "made"
        made.touch()
        self.assertEqual(self.run_steps(bench.Step("it", self.fails.command, made)), 0)
        self.assertEqual(self.said.getvalue(), "")

    def test_a_stamp_is_there_after_success_alone(self) -> None:
        old, new = self.folder / ".installed-1", self.folder / ".installed-2"
        old.touch()
        self.run_steps(bench.Step("it", self.fails.command, new, stamp=True))
        self.assertEqual([old.exists(), new.exists()], [False, False])
        self.run_steps(bench.Step("it", [sys.executable, "-c", ""], new, stamp=True))
        self.assertTrue(new.exists())

    def test_a_step_that_fails_ends_it(self) -> None:
        self.assertEqual(self.run_steps(self.fails, self.touch("after")), 1)
        self.assertFalse((self.folder / "after").exists())
        self.assertIn("bench: what fails failed:", self.said.getvalue())

    def test_a_peer_that_does_not_install_costs_itself_alone(self) -> None:
        self.assertEqual(self.run_steps(bench.Step("deepgemm", self.fails.command, may_fail=True), self.touch("after")), 0)
        self.assertTrue((self.folder / "after").exists())


if __name__ == "__main__":
    unittest.main()
