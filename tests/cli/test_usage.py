"""Help, versions, exit codes of wrong usage; what the manual must name."""

import re
import subprocess
import unittest

from harness import BLOCKMOE, HERE, CliTest

SUBCOMMANDS = ("verify", "bench", "run", "plan", "info")


class Usage(CliTest):
    def test_help_of_every_subcommand_has_examples(self):
        for name in SUBCOMMANDS:
            with self.subTest(name):
                self.assertIn(f"Examples:\n  blockmoe {name}", self.blockmoe(name, "--help").stdout)

    def test_top_level_help_names_every_subcommand(self):
        text = self.blockmoe("--help").stdout
        for name in SUBCOMMANDS:
            self.assertRegex(text, rf"(?m)^  {name} ")
        listed = re.findall(r"(?m)^  ([a-z][a-z-]+) ", text.split("Subcommands:")[1])
        self.assertEqual(sorted(listed), sorted(SUBCOMMANDS))

    def test_version_is_the_librarys(self):
        header = (HERE.parents[1] / "include/blockmoe/version.h").read_text()
        version = re.search(r'BLOCKMOE_VERSION "(.*)"', header).group(1)
        self.assertEqual(self.blockmoe("--version").stdout, f"blockmoe {version}\n")

    def test_manual_names_every_option(self):
        manual = (HERE.parents[1] / "docs/cli.md").read_text()
        for name in SUBCOMMANDS:
            section = re.search(rf"(?ms)^## blockmoe {name}\n(.*?)(?=^## |\Z)", manual)
            self.assertIsNotNone(section, f"docs/cli.md has no section of {name}")
            options = set(re.findall(r"(?m)^  (?:-h,)?(--[a-z0-9-]+)", self.blockmoe(name, "--help").stdout)) - {"--help"}
            self.assertTrue(options, name)
            for option in options:
                self.assertIn(f"`{option}", section.group(1), f"{name} {option}")

    def test_wrong_usage_ends_with_2(self):
        self.blockmoe(code=2)
        self.blockmoe("no-such-subcommand", code=2)
        for name in SUBCOMMANDS:
            with self.subTest(name):
                self.assert_refused(name, "--no-such-option", says="--no-such-option")
                self.assert_refused(name, "an argument too many", says="an argument too many")

    def test_wrong_values_are_named(self):
        rows = self.write_rows({"uuid": "a", "T": 1})
        cases = [
            ("--atol", "nan"), ("--atol", "-1"), ("--atol", "abc"), ("--atol", "inf"), ("--rtol", "-0.1"), ("--rtol", "1x"),
            ("--required-matched-ratio", "1.5"), ("--required-matched-ratio", "nan"), ("--threads", "-1"),
            ("--threads", "two"), ("--seed", "-1"), ("--seed", "1.5"), ("--cmd-timeout", "0"), ("--profile", "realistic"),
            ("--routing", "zipf:x"), ("--oracle", "half"), ("--backend", "fastest"), ("--device", "tpu"),
            ("--device", "cuda:x"), ("--device", "cuda:-1"), ("--device", "cuda:99"),
        ]
        for option, value in cases:
            with self.subTest(f"{option} {value}"):
                self.assert_refused("verify", "--workloads", rows, option, value, says=option)

    def test_output_that_cannot_be_written_ends_with_1(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([BLOCKMOE, "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)

    def test_bench_wants_a_gpu(self):
        self.assert_refused("bench", "--tokens", "1", "--device", "cpu", says="blockmoe bench: ")

    def test_an_option_without_its_value_is_refused(self):
        for option in ("--workloads", "--uuid", "--dump-json", "--atol", "--agent-cmd"):
            with self.subTest(option):
                self.assert_refused("verify", option, says=option)


if __name__ == "__main__":
    unittest.main()
