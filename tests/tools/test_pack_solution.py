"""tools/pack_solution.py: no file of the workspace takes another's place."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import pack_solution  # noqa: E402


class PackSolution(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.addCleanup(setattr, pack_solution, "ROOT", pack_solution.ROOT)
        pack_solution.ROOT = self.root
        self.write("solution/moe.cu", "entry")
        self.write("kernels/stages/pack.cu", "device")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def pack(self):
        return pack_solution.pack(self.root / "packed")

    def test_a_file_for_the_host_gets_the_devices_ending(self):
        self.write("kernels/stages/host.cpp", "host")
        self.assertEqual([str(f) for f in self.pack()], ["moe.cu", "stages/host.cu", "stages/pack.cu"])
        self.assertEqual((self.root / "packed/stages/host.cu").read_text(), "host")

    def test_a_name_that_is_taken_is_refused(self):
        for name, taken in [("kernels/stages/pack.cpp", "stages/pack.cu"), ("kernels/moe.cpp", "moe.cu")]:
            with self.subTest(name):
                self.write(name, "another")
                with self.assertRaises(SystemExit) as refused:
                    self.pack()
                self.assertIn(taken, str(refused.exception))
                (self.root / name).unlink()


if __name__ == "__main__":
    unittest.main()
