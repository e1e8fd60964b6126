"""Help, versions, exit codes of wrong usage; what the manual must name."""

import json
import pathlib
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

    def test_errors_are_one_line_that_names_what_is_wrong_and_what_it_must_be(self):
        cases = [
            ((), "blockmoe: subcommand: none, expected one of verify, bench, run, plan, info"),
            (("no-such",), "blockmoe: subcommand: 'no-such', expected one of verify, bench, run, plan, info"),
            (("verify", "--no-such"), "blockmoe verify: '--no-such' is none of its options; blockmoe verify --help lists them"),
            (("verify", "--seed", "-1"), "blockmoe verify: --seed: '-1', expected a whole number from 0 to 2^64 - 1"),
            (("verify", "--threads", "-1"), "blockmoe verify: --threads: '-1', expected a whole number from 0 to 4096"),
            (("verify", "--atol", "nan"), "blockmoe verify: --atol: 'nan', expected a finite number of at least 0"),
            (("verify", "--required-matched-ratio", "1.5"),
             "blockmoe verify: --required-matched-ratio: '1.5', expected a number from 0 to 1"),
            (("verify", "--profile", "odd"), "blockmoe verify: --profile: 'odd', expected official or model"),
            (("verify", "--oracle", "half"), "blockmoe verify: --oracle: 'half', expected auto, sample or full"),
            (("verify", "--routing", "zipf:x"), "blockmoe verify: --routing: 'zipf:x', expected even, zipf, zipf:S with S from "
             "0 to 16, all-on-one, one-row or none-local"),
            (("verify", "--device", "tpu"), "blockmoe verify: --device: 'tpu', expected auto, cpu, cuda or cuda:N"),
            (("bench", "--ep", "--markdown", "a.md"), "blockmoe bench: --markdown: given beside --ep, expected --json"),
            (("bench", "--runs", "0"), "blockmoe bench: --runs: '0', expected a whole number from 1 to 10000"),
            (("plan", "--hidden", "wide"), "blockmoe plan: --hidden: 'wide', expected a whole number from -2147483648 to "
             "2147483647"),
        ]
        for arguments, text in cases:
            with self.subTest(arguments):
                self.assertEqual(self.blockmoe(*arguments, code=2).stderr, text + "\n")

    def test_a_geometry_is_refused_in_the_same_words_everywhere(self):
        for option, value, text in (
                ("--hidden", "200", "--hidden: 200, expected a multiple of 128 from 128 to 65536"),
                ("--hidden", "70000", "--hidden: 70000, expected a multiple of 128 from 128 to 65536"),
                ("--n-group", "7", "--n-group: 7, expected a divisor of 256 (--experts)"),
                ("--local-experts", "0", "--local-experts: 0, expected 1 to 256 (--experts)")):
            with self.subTest(f"{option} {value}"):
                for command in (("run", "--tokens", "1"), ("plan",)):
                    self.assertEqual(self.blockmoe(*command, option, value, code=2).stderr, f"blockmoe {command[0]}: {text}\n")

    def test_a_backend_without_its_device_names_only_what_was_typed(self):
        info = json.loads(self.blockmoe("info", "--json").stdout)
        if any(device["device"].startswith("cuda") for device in info["devices"]):
            self.skipTest("there is a GPU here")
        no_gpu = next(backend["why_not"] for backend in info["backends"] if not backend["runs"])
        for arguments, text in (
                (("verify", "--backend", "hopper"), f"--backend: hopper, expected one that runs on this machine ({no_gpu})"),
                (("verify", "--device", "cuda"), f"--device: cuda, expected a device of this machine ({no_gpu})"),
                (("bench",), no_gpu)):
            with self.subTest(arguments):
                done = self.blockmoe(*arguments, code=2)
                self.assertEqual((done.stdout, done.stderr), ("", f"blockmoe {arguments[0]}: {text}\n"))
        if info["build"]["cuda"] and not pathlib.Path("/proc/driver/nvidia/version").exists():
            self.assertEqual(no_gpu, "device: cuda:0, but there is no NVIDIA driver here")

    def test_output_that_cannot_be_written_ends_with_1(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([BLOCKMOE, "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output", done.stderr)

    def test_bench_wants_a_gpu(self):
        done = self.assert_refused("bench", "--tokens", "1", "--device", "cpu", says=["blockmoe bench: ", "GPU"])
        self.assertEqual(done.stdout, "")

    def test_bench_takes_tokens_or_rows(self):
        for option in (("--all",), ("--uuid", "e05c6c03"), ("--workloads", "rows.jsonl")):
            with self.subTest(option):
                self.assert_refused("bench", "--tokens", "1", *option, says=["--tokens", option[0]])

    def test_an_option_without_its_value_is_refused(self):
        for option in ("--workloads", "--uuid", "--dump-json", "--atol", "--agent-cmd"):
            with self.subTest(option):
                self.assert_refused("verify", option, says=option)


if __name__ == "__main__":
    unittest.main()
