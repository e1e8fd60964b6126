"""`verify` of somebody else's implementation: commands, templates, metadata, baselines, the CSV."""

import csv
import json
import os
import signal
import time
import unittest

from harness import FAKE_AGENT, CliTest, row

CSV_COLUMNS = [
    "timestamp", "commit", "solution_name", "workload_set", "batch_size", "latency_us", "baseline_latency_us",
    "speedup_vs_baseline", "passed_correctness", "notes",
]


class AgentCommand(CliTest):
    def test_the_last_json_line_is_the_verdict(self):
        rows = self.write_rows(row("a", 1), row("b", 2))
        report = self.verify("--workloads", rows, "--agent-cmd", f"{FAKE_AGENT} --latency 50 --echo {{uuid}}")
        self.assertTrue(report["all_passed"])
        self.assertEqual(report["agent_mean_us"], 50)
        self.assertEqual([r["agent"]["echoed"] for r in report["results"]], [["a"], ["b"]])
        self.assertIn("--agent-cmd", report["correctness"]["reference"])

    def test_an_agent_that_says_so_fails_the_row(self):
        rows = self.write_rows(row("a", 1))
        report = self.verify("--workloads", rows, "--agent-cmd", f"{FAKE_AGENT} --fail", code=1)
        self.assertFalse(report["results"][0]["passed"])
        self.assertEqual(report["results"][0]["agent"]["passed"], False)

    def test_json_over_many_lines_is_read_when_it_is_all_there_is(self):
        rows = self.write_rows(row("a", 1))
        command = 'printf \'{{\\n"passed": true,\\n"latency_us": 7\\n}}\\n\''
        report = self.verify("--workloads", rows, "--agent-cmd", command)
        self.assertEqual(report["agent_mean_us"], 7)

    def test_unusable_answers_fail_the_row_and_say_why(self):
        rows = self.write_rows(row("a", 1), row("b", 2))
        cases = {
            "exit 3": "ended with 3",
            "echo oh no >&2; exit 1": "oh no",
            "kill -9 $$": "ended with 137",
            "true": "no JSON object",
            "echo passed": "no JSON object",
            "echo [1, 2]": "no JSON object",
            "echo '{{\"latency_us\": 1}}'": "'passed'",
            "echo '{{\"passed\": 1, \"latency_us\": 1}}'": "'passed'",
            "echo '{{\"passed\": true}}'": "'latency_us'",
            "echo '{{\"passed\": true, \"latency_us\": \"fast\"}}'": "'latency_us'",
            "echo '{{\"passed\": true, \"latency_us\": -1}}'": "'latency_us'",
            "echo '{{\"passed\": true, \"latency_us\": 0}}'": "'latency_us'",
            "no-such-program-anywhere": "ended with 127",
        }
        for command, why in cases.items():
            with self.subTest(command):
                report = self.verify("--workloads", rows, "--agent-cmd", command, code=1)
                self.assertEqual(report["passed_count"], 0)
                for result in report["results"]:
                    self.assertIn(why, result["agent"]["error"])
                    self.assertIsNone(result["agent_latency_us"])

    def test_a_failed_agent_needs_no_latency(self):
        rows = self.write_rows(row("a", 1))
        report = self.verify("--workloads", rows, "--agent-cmd", "echo '{{\"passed\": false, \"latency_us\": null}}'", code=1)
        self.assertEqual(report["results"][0]["agent"], {"passed": False, "latency_us": None})
        self.assertIsNone(report["agent_mean_us"])

    def test_a_command_past_its_time_is_ended_with_all_that_it_started(self):
        rows = self.write_rows(row("a", 1))
        started = time.monotonic()
        report = self.verify("--workloads", rows, "--cmd-timeout", "0.5", "--agent-cmd",
                             "sleep 100 & echo $! > child; sleep 100", code=1)
        self.assertLess(time.monotonic() - started, 30)
        self.assertIn("past 0.5 s", report["results"][0]["agent"]["error"])
        child = int((self.folder / "child").read_text())
        self.assert_is_gone(child)

    def assert_is_gone(self, process):
        for _ in range(100):
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return
            # Ended, but nobody has asked for its exit code yet: as good as gone.
            with open(f"/proc/{process}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
            time.sleep(0.05)
        os.kill(process, signal.SIGKILL)
        self.fail(f"process {process} still runs")

    def test_much_output_is_no_obstacle(self):
        rows = self.write_rows(row("a", 1))
        report = self.verify("--workloads", rows, "--agent-cmd",
                             "yes | head -c 20000000; yes | head -c 20000000 >&2; echo '{{\"passed\": true, \"latency_us\": 3}}'",
                             "--cmd-timeout", "60", code=0)
        self.assertEqual(report["agent_mean_us"], 3)


class Templates(CliTest):
    def echoed(self, template, **more):
        rows = self.write_rows(row("a", 5, **more))
        report = self.verify("--workloads", rows, "--agent-cmd", f"{FAKE_AGENT} {template}")
        return report["results"][0]["agent"]["echoed"]

    def test_every_key_of_the_row_is_known(self):
        given = self.echoed("--echo {uuid} --echo {T} --echo {split} --echo {note} --echo {geometry}", note="x")
        self.assertEqual(given[:4], ["a", "5", "dev", "x"])
        self.assertEqual(json.loads(given[4]), row("a", 5)["geometry"])

    def test_the_whole_row_is_known(self):
        (given,) = self.echoed("--echo {workload_json}", note="it's \"quoted\" $HOME `id`")
        self.assertEqual(json.loads(given), row("a", 5, note="it's \"quoted\" $HOME `id`"))

    def test_values_reach_the_command_as_text_within_any_quotes(self):
        nasty = "a b'; touch owned; '\"$(touch owned)`touch owned`\\ \n*"
        for quotes in ("{note}", "'{note}'", '"{note}"', "'<{note}>'", "\"it's <{note}>\"", "\\'{note}"):
            with self.subTest(quotes):
                (given,) = self.echoed(f"--echo {quotes}", note=nasty)
                self.assertIn(nasty, given)
                self.assertFalse((self.folder / "owned").exists())

    def test_double_braces_are_braces(self):
        self.assertEqual(self.echoed("--echo '{{uuid}}'"), ["{uuid}"])

    def test_an_unknown_key_is_refused_before_anything_runs(self):
        rows = self.write_rows(row("a", 5, extra=1), row("b", 5))
        done = self.assert_refused("verify", "--workloads", rows, "--agent-cmd", "touch ran; echo {extra}",
                                   says=["--agent-cmd", "'extra'", "uuid"])
        self.assertEqual(done.stdout, "")
        self.assertFalse((self.folder / "ran").exists())

    def test_a_stray_brace_is_refused(self):
        rows = self.write_rows(row("a", 5))
        for template in ("echo {", "echo }", "echo {uuid", "echo {}", "awk '{print {T}'"):
            with self.subTest(template):
                self.assert_refused("verify", "--workloads", rows, "--agent-cmd", template, says=["--agent-cmd", "brace"])
        self.assert_refused("verify", "--workloads", rows, "--baseline-cmd", "echo {", says="--baseline-cmd")


class Baseline(CliTest):
    def test_a_baselines_command_is_compared_with(self):
        rows = self.write_rows(row("a", 1), row("b", 2))
        report = self.verify("--workloads", rows, "--agent-cmd", f"{FAKE_AGENT} --latency {{T}}00", "--baseline-cmd",
                             f"{FAKE_AGENT} --latency 300")
        self.assertEqual([r["speedup_vs_baseline"] for r in report["results"]], [3, 1.5])
        self.assertEqual(report["agent_mean_us"], 150)
        self.assertEqual(report["baseline_mean_us"], 300)
        self.assertEqual(report["mean_speedup_vs_baseline"], 2.25)
        self.assertIn("--baseline-cmd", report["speed_baseline"])
        self.assertEqual(report["results"][0]["baseline"]["latency_us"], 300)

    def test_the_library_itself_can_be_compared(self):
        rows = self.write_rows(row("a", 1))
        report = self.verify("--workloads", rows, "--baseline-cmd", f"{FAKE_AGENT} --latency 1e9")
        self.assertEqual(report["results"][0]["agent"]["source"], "blockmoe")
        self.assertGreater(report["mean_speedup_vs_baseline"], 1)

    def test_a_baseline_that_fails_gives_no_time_and_ends_with_1(self):
        rows = self.write_rows(row("a", 1))
        for command in ("exit 1", f"{FAKE_AGENT} --fail"):
            with self.subTest(command):
                report = self.verify("--workloads", rows, "--agent-cmd", FAKE_AGENT, "--baseline-cmd", command, code=1)
                self.assertTrue(report["all_passed"])
                self.assertIsNone(report["results"][0]["baseline_latency_us"])
                self.assertIsNone(report["mean_speedup_vs_baseline"])
        text = self.blockmoe("verify", "--workloads", rows, "--agent-cmd", FAKE_AGENT, "--baseline-cmd", "exit 7", code=1).stdout
        self.assertIn("no baseline: the command ended with 7", text)

    def test_baseline_alone_takes_the_rows_figure(self):
        rows = self.write_rows(row("a", 1, baseline_latency_us=400.0), row("b", 1))
        report = self.verify("--workloads", rows, "--agent-cmd", FAKE_AGENT, "--baseline")
        self.assertEqual([r["speedup_vs_baseline"] for r in report["results"]], [4, None])
        self.assertIsNone(self.verify("--workloads", rows, "--agent-cmd", FAKE_AGENT)["speed_baseline"])

    def test_baseline_without_any_source_is_refused(self):
        self.assert_refused("verify", "--workloads", self.write_rows(row("a", 1)), "--agent-cmd", "true", "--baseline",
                            says=["--baseline", "baseline_latency_us", "--baseline-cmd"])


# The original system's figures on a B200: T, baseline, its own.
ORIGINAL = [(1, 203, 108), (7, 212, 144), (14, 266, 174), (15, 203, 114), (16, 254, 180), (32, 308, 233), (52, 283, 207),
            (53, 365, 246), (54, 321, 227), (55, 334, 260), (56, 342, 246), (57, 334, 260), (58, 338, 267), (59, 300, 227),
            (62, 295, 207), (80, 367, 287), (901, 459, 338), (11948, 1787, 1119), (14107, 2410, 1528)]


class ComparisonTable(CliTest):
    def compare(self, *rows, more=()):
        return self.blockmoe("verify", "--workloads", self.write_rows(*rows), "--metadata", *more).stdout

    def test_has_a_line_a_shape_and_the_sums_below(self):
        rows = [{"uuid": f"u{tokens}", "T": tokens, "agent_latency_us": ours, "baseline_latency_us": baseline,
                 "baseline_name": "flashinfer_wrapper_9sdjf3"} for tokens, baseline, ours in ORIGINAL]
        lines = self.compare(*rows).splitlines()
        (head,) = [i for i, line in enumerate(lines) if "baseline us" in line]
        self.assertEqual(lines[head].split(), "T uuid baseline us ours us speedup gemm1 path gemm2 path".split())
        self.assertEqual(lines[head + 1].split(), ["1", "u1", "203.0", "108.0", "1.880", "-", "-"])
        self.assertEqual(lines[head + 19].split()[:5], ["14107", "u14107", "2410.0", "1528.0", "1.577"])
        self.assertEqual(lines[head + 20],
                         "ratio of means 1.472, mean speedup 1.444, least speedup 1.266 (T = 58, u58), "
                         "large shapes (T >= 901) summed 1.560; baseline: flashinfer_wrapper_9sdjf3 (the workload file's "
                         "baseline_latency_us)")

    def test_large_shapes_begin_at_901(self):
        rows = [{"uuid": "a", "T": 900, "agent_latency_us": 1, "baseline_latency_us": 9},
                {"uuid": "b", "T": 901, "agent_latency_us": 2, "baseline_latency_us": 3}]
        self.assertIn("large shapes (T >= 901) summed 1.500;", self.compare(*rows))
        self.assertIn("large shapes (T >= 901) summed -;", self.compare(rows[0]))
        report = self.verify("--workloads", self.write_rows(*rows), "--metadata")
        self.assertEqual(report["comparison"], {"ratio_of_means": 4, "least_speedup": 1.5,
                                                "large_shapes": {"least_T": 901, "summed_speedup": 1.5}})

    def test_rows_without_a_baseline_count_in_no_sum(self):
        rows = self.write_rows(row("a", 1, baseline_latency_us=200), row("b", 2))
        text = self.blockmoe("verify", "--workloads", rows, "--agent-cmd", FAKE_AGENT, "--baseline").stdout
        self.assertIn("ratio of means 2.000, mean speedup 2.000, least speedup 2.000 (T = 1, a)", text)

    def test_names_the_paths_of_this_librarys_products_and_of_a_command_that_says_them(self):
        rows = self.write_rows(row("a", 1))
        baseline = f"{FAKE_AGENT} --latency 1e9"
        text = self.blockmoe("verify", "--workloads", rows, "--backend", "cpu", "--baseline-cmd", baseline).stdout
        self.assertRegex(text, r"\n +1 a +1000000000\.0 +[0-9.]+ +[0-9.]+ cpu/\w+ +cpu/\w+\n")
        agent = "echo '{{\"passed\": true, \"latency_us\": 5, \"gemm1_path\": \"one\", \"gemm2_path\": \"two\"}}'"
        text = self.blockmoe("verify", "--workloads", rows, "--agent-cmd", agent, "--baseline-cmd", baseline).stdout
        self.assertRegex(text, r" one +two\n")

    def test_a_commands_own_name_names_the_baseline(self):
        rows = self.write_rows(row("a", 1))
        baseline = "echo '{{\"passed\": true, \"latency_us\": 5, \"name\": \"theirs 1.2\"}}'"
        report = self.verify("--workloads", rows, "--agent-cmd", FAKE_AGENT, "--baseline-cmd", baseline)
        self.assertEqual(report["speed_baseline"], "theirs 1.2 (--baseline-cmd)")

    def test_without_a_baseline_no_speedup_is_printed(self):
        rows = self.write_rows(row("a", 1))
        text = self.blockmoe("verify", "--workloads", rows, "--backend", "cpu").stdout
        self.assertNotIn("speedup", text)
        self.assertIsNone(self.verify("--workloads", rows, "--backend", "cpu")["comparison"])


class Metadata(CliTest):
    def test_rows_that_carry_figures_are_read_as_they_are(self):
        rows = self.write_rows({"uuid": "a", "T": 1, "agent_latency_us": 108.0, "baseline_latency_us": 216.0},
                               {"uuid": "b", "T": 7, "agent_latency_us": 144.0, "baseline_latency_us": 216.0, "passed": True})
        report = self.verify("--workloads", rows, "--metadata")
        self.assertEqual([r["speedup_vs_baseline"] for r in report["results"]], [2, 1.5])
        self.assertEqual([r["agent"]["passed_given"] for r in report["results"]], [False, True])
        self.assertTrue(report["all_passed"])
        self.assertIn("not checked", report["correctness"]["reference"])

    def test_a_row_that_says_it_failed_has_failed(self):
        rows = self.write_rows({"uuid": "a", "T": 1, "agent_latency_us": 108.0, "passed": False})
        report = self.verify("--workloads", rows, "--metadata", code=1)
        self.assertEqual(report["passed_count"], 0)

    def test_rows_without_figures_run(self):
        rows = self.write_rows(row("a", 1, agent_latency_us=5.0), row("b", 2))
        report = self.verify("--workloads", rows, "--metadata")
        self.assertEqual([r["agent"]["source"] for r in report["results"]], ["metadata", "blockmoe"])

    def test_without_the_flag_figures_are_not_read(self):
        rows = self.write_rows(row("a", 1, agent_latency_us=5.0, baseline_latency_us=5.0))
        report = self.verify("--workloads", rows)
        self.assertEqual(report["results"][0]["agent"]["source"], "blockmoe")
        self.assertIsNone(report["results"][0]["baseline_latency_us"])

    def test_figures_that_are_no_times_are_refused(self):
        rows = self.write_rows({"uuid": "a", "T": 1, "agent_latency_us": "fast"})
        self.assert_refused("verify", "--workloads", rows, "--metadata", says="agent_latency_us")


class BenchmarkCsv(CliTest):
    def append(self, *more, code=0):
        self.blockmoe("verify", "--workloads", self.rows, "--agent-cmd", FAKE_AGENT, "--append-benchmark", "history.csv",
                      *more, code=code)
        with open(self.folder / "history.csv", newline="") as file:
            return list(csv.reader(file))

    def setUp(self):
        super().setUp()
        self.rows = self.write_rows(row("a", 3, baseline_latency_us=250), row("b", 14, baseline_latency_us=50))

    def test_rows_are_appended_below_one_header(self):
        self.append("--commit", "abc123", "--solution-name", "mine, all mine", "--baseline")
        lines = self.append()
        self.assertEqual(lines[0], CSV_COLUMNS)
        self.assertEqual(len(lines), 5)
        first = dict(zip(CSV_COLUMNS, lines[1]))
        self.assertRegex(first.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(first, {
            "commit": "abc123", "solution_name": "mine, all mine", "workload_set": "rows", "batch_size": "3",
            "latency_us": "100.000", "baseline_latency_us": "250.000", "speedup_vs_baseline": "2.500",
            "passed_correctness": "true", "notes": "a"})
        self.assertEqual(lines[3][1:3], ["", "blockmoe"])
        self.assertEqual(lines[3][6:8], ["", ""])

    def test_a_failed_row_says_why(self):
        self.rows = self.write_rows(row("a", 3))
        self.blockmoe("verify", "--workloads", self.rows, "--agent-cmd", 'echo "bad, \'news\'" >&2; exit 5',
                      "--append-benchmark", "history.csv", code=1)
        with open(self.folder / "history.csv", newline="") as file:
            last = dict(zip(CSV_COLUMNS, list(csv.reader(file))[-1]))
        self.assertEqual(last["passed_correctness"], "false")
        self.assertEqual(last["latency_us"], "")
        self.assertIn("bad, 'news'", last["notes"])

    def test_a_file_that_is_something_else_is_left_alone(self):
        other = self.folder / "history.csv"
        other.write_text("name,age\nx,1\n")
        self.assert_refused("verify", "--workloads", self.rows, "--agent-cmd", FAKE_AGENT, "--append-benchmark", other,
                            says=["--append-benchmark", "name,age"])
        self.assertEqual(other.read_text(), "name,age\nx,1\n")


if __name__ == "__main__":
    unittest.main()
