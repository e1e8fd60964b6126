"""What tools/readme_examples.py takes for an example."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from readme_examples import Malformed, examples  # noqa: E402


class ReadmeExamples(unittest.TestCase):
    def test_every_block_of_a_language_that_runs_is_an_example(self):
        found = examples((HERE / "sample.md").read_text())
        self.assertEqual([e.name for e in found], ["cpp.1", "c.1", "sh.1", "sh.2", "cpp.2"])

    def test_an_example_is_its_block_as_it_stands(self):
        found = {e.name: e for e in examples((HERE / "sample.md").read_text())}
        self.assertEqual(found["sh.1"].text, "blockmoe --version\nblockmoe --version > here.txt\n")
        self.assertTrue(found["cpp.1"].text.startswith("#include <blockmoe/blockmoe.hpp>\n#include <cstdio>\n\nint main"))

    def test_a_longer_fence_holds_shorter_ones(self):
        self.assertEqual([e.text for e in examples("````sh\n```\n````\n")], ["```\n"])

    def test_an_open_block_is_refused(self):
        with self.assertRaisesRegex(Malformed, "line 2: ```cpp: this block is not closed"):
            examples("text\n```cpp\nint x;\n")

    def test_a_block_that_is_not_run_has_a_reason(self):
        with self.assertRaisesRegex(Malformed, "say why"):
            examples("<!-- not run: -->\n```sh\nfalse\n```\n")

    def test_the_readmes_whole_programs_are_the_examples_files(self):
        listed = [e.text for e in examples((ROOT / "README.md").read_text())]
        for program in ("examples/cpp/moe.cpp", "examples/c/moe.c"):
            self.assertIn((ROOT / program).read_text(), listed, program)


if __name__ == "__main__":
    unittest.main()
