"""`verify` of this library: what it checks, what it prints, which rows it takes, and the inputs that it refuses."""

import json
import os
import pty
import subprocess
import unittest

from harness import BLOCKMOE, GEOMETRY, HERE, CliTest, row, write_safetensors


class Pruned(CliTest):
    FLAGS = ("--backend", "cpu", "--max-local-picks", "1")

    def setUp(self):
        super().setUp()
        self.rows = self.write_rows(row("a", 7), row("b", 40))

    def test_passes_against_the_pruned_oracle_and_says_what_it_cost(self):
        report = self.verify("--workloads", self.rows, *self.FLAGS)
        self.assertTrue(report["all_passed"])
        self.assertIn("that prunes too", report["correctness"]["reference"])
        self.assertEqual(report["pruning"], {"mark": "PRUNED", "max_local_picks": 1, "min_weight_share": 0})
        for result in report["results"]:
            found, cost = result["agent"], result["agent"]["pruning"]
            self.assertTrue(found["path"].endswith(" PRUNED"))
            self.assertEqual(cost["mark"], "PRUNED")
            self.assertEqual(cost["exact_picks"] - cost["picks_dropped"], found["rows"])
            self.assertGreater(cost["picks_dropped"], 0)
            self.assertGreater(cost["rel_l2_to_exact"], 0.05)
            self.assertLess(cost["matched_ratio_to_exact"], 1)

    def test_every_line_is_marked(self):
        text = self.blockmoe("verify", "--workloads", self.rows, *self.FLAGS, "--baseline-cmd",
                             "echo '{{\"passed\": true, \"latency_us\": 5}}'").stdout
        for beginning in (r"a +7 .* pass PRUNED", r"b +40 .* pass PRUNED", r" +7 a .* PRUNED$", r" +40 b .* PRUNED$"):
            self.assertRegex(text, rf"(?m)^{beginning}")
        self.assertRegex(text, r"(?m)^2/2 passed, PRUNED$")
        self.assertRegex(text, r"(?m)^PRUNED: at most 1 local pick a token; \d+ of \d+ local picks dropped; against the exact "
                               r"layer a matched ratio of 0\.\d+ or more and a relative L2 of \d\.\d+ or less$")
        quiet = self.blockmoe("verify", "--workloads", self.rows, *self.FLAGS, "--quiet").stdout
        self.assertEqual(quiet, "2/2 passed, PRUNED\n")

    def test_the_csv_is_marked(self):
        self.blockmoe("verify", "--workloads", self.rows, *self.FLAGS, "--min-weight-share", "0.1", "--append-benchmark",
                      "history.csv")
        self.assertIn('"PRUNED: at most 1 local pick a token, each with at least 0.1 of its token\'s weights; a"',
                      (self.folder / "history.csv").read_text())

    def test_exact_results_bear_no_mark(self):
        report = self.verify("--workloads", self.rows, "--backend", "cpu")
        self.assertIsNone(report["pruning"])
        self.assertNotIn("pruning", report["results"][0]["agent"])

    def test_a_rule_that_drops_nothing_is_marked_all_the_same(self):
        report = self.verify("--workloads", self.rows, "--backend", "cpu", "--max-local-picks",
                             str(GEOMETRY["top_k"]))
        self.assertEqual([r["agent"]["pruning"]["picks_dropped"] for r in report["results"]], [0, 0])
        self.assertEqual(report["pruning"]["mark"], "PRUNED")

    def test_rules_that_cant_be_are_refused(self):
        for flags, says in [(("--max-local-picks", "-1"), "--max-local-picks"), (("--max-local-picks", "33"), "0 to 32"),
                            (("--min-weight-share", "1"), "from 0 to below 1"), (("--min-weight-share", "nan"), "nan"),
                            (("--min-weight-share", "-0.1"), "--min-weight-share"),
                            (("--max-local-picks", "32"), "max_local_picks: 32, expected 0 to")]:
            with self.subTest(flags):
                self.assert_refused("verify", "--workloads", self.rows, "--backend", "cpu", *flags, says=says)


class Verdict(CliTest):
    def test_small_shapes_pass_with_both_profiles(self):
        rows = self.write_rows(row("a", 1), row("b", 7), row("c", 200))
        for profile in ("official", "model"):
            with self.subTest(profile):
                report = self.verify("--workloads", rows, "--backend", "cpu", "--profile", profile)
                self.assertTrue(report["all_passed"])
                self.assertEqual(report["passed_count"], 3)
                self.assertEqual([r["T"] for r in report["results"]], [1, 7, 200])
                for result in report["results"]:
                    found = result["agent"]
                    self.assertEqual(found["profile"], profile)
                    self.assertGreater(found["rows"], 0)
                    self.assertGreater(found["active_experts"], 0)
                    self.assertTrue(found["path"].startswith("cpu/"))
                    self.assertLess(found["comparison"]["rel_l2_requantised"], found["gates"]["rel_l2_requantised"])
                    self.assertGreater(found["comparison"]["rel_l2_plain"], found["comparison"]["rel_l2_requantised"])
                    self.assertLess(found["comparison"]["rel_l2_plain"], found["gates"]["rel_l2_plain"])
                    self.assertGreater(result["agent_latency_us"], 0)
                    self.assertGreaterEqual(found["latency"]["runs"], 3)

    def test_an_intermediate_of_two_terms_is_held_to_gates_of_its_own(self):
        rows = self.write_rows(row("a", 1), row("b", 200))
        report = self.verify("--workloads", rows, "--backend", "cpu", "--intermediate-type", "e4m3x2")
        self.assertTrue(report["all_passed"])
        for result in report["results"]:
            found = result["agent"]
            self.assertLess(found["comparison"]["rel_l2_plain"], 0.002)
            self.assertEqual(found["gates"]["rel_l2_plain"], 0.002)
        self.assert_refused("verify", "--workloads", rows, "--intermediate-type", "bf16", says=["--intermediate-type", "e4m3 or e4m3x2"])

    def test_report_states_its_conditions(self):
        rows = self.write_rows(row("a", 5))
        report = self.verify("--workloads", rows, "--atol", "2", "--rtol", "0.25", "--required-matched-ratio", "0.8")
        self.assertEqual(report["workload_file"], str(rows))
        self.assertIsNone(report["speed_baseline"])
        self.assertIsNone(report["mean_speedup_vs_baseline"])
        correctness = report["correctness"]
        self.assertEqual((correctness["atol"], correctness["rtol"]), (2, 0.25))
        self.assertEqual(correctness["required_matched_ratio"], 0.8)
        self.assertIn("FP64 oracle", correctness["reference"])

    def test_report_states_where_it_comes_from(self):
        rows = self.write_rows(row("a", 5))
        report = self.verify("--workloads", rows, "--backend", "cpu", "--commit", "abc123", "--uuid", "a", "--seed", "3")
        self.assertEqual(report["commit"], "abc123")
        self.assertEqual([report["machine"][key] for key in ("gpu", "driver", "cuda")], [None, None, None])
        self.assertGreater(report["wall_s"], 0)
        self.assertIn("routing_logits and routing_bias are drawn: the row names no file of the data set", report["notes"])
        command = report["command"]
        for part in (" --workloads rows.jsonl ", " --uuid a ", " --seed 3 ", " --backend cpu ", " --profile official "):
            self.assertIn(part, command + " ")
        for part in ("--commit", "--dump-json", "--all", str(self.folder)):
            self.assertNotIn(part, command)

    def test_the_verdict_is_printed_where_a_report_fails(self):
        done = self.blockmoe("verify", "--workloads", self.write_rows(row("a", 3)), "--quiet", "--dump-json", "/dev/full",
                             code=1)
        self.assertEqual(done.stdout, "1/1 passed\n")
        self.assertIn("/dev/full", done.stderr)

    def test_a_tolerance_that_cannot_be_met_fails_with_1(self):
        rows = self.write_rows(row("a", 5))
        arguments = ("--workloads", rows, "--atol", "0", "--rtol", "0", "--required-matched-ratio", "1")
        report = self.verify(*arguments, code=1)
        self.assertFalse(report["all_passed"])
        self.assertEqual(report["passed_count"], 0)
        self.assertTrue(report["results"][0]["agent"]["error"])
        text = self.blockmoe("verify", *arguments, code=1).stdout
        self.assertIn("0/1 passed", text)
        self.assertIn("FAIL", text)
        self.assertIn(report["results"][0]["agent"]["error"], text)

    def test_full_oracle_checks_every_token(self):
        rows = self.write_rows(row("a", 150))
        sampled = self.verify("--workloads", rows)["results"][0]["agent"]["comparison"]["checked_tokens"]
        full = self.verify("--workloads", rows, "--oracle", "full")["results"][0]["agent"]["comparison"]["checked_tokens"]
        self.assertLess(sampled, 150)
        self.assertEqual(full, 150)

    def test_the_cpus_standard_oracle_is_the_sample(self):
        rows = self.write_rows(row("a", 150))
        report = self.verify("--workloads", rows, "--device", "cpu")
        self.assertLess(report["results"][0]["agent"]["comparison"]["checked_tokens"], 150)
        self.assertIn("sampled", report["correctness"]["reference"])

    def test_tokens_of_unusual_routing_are_counted(self):
        # Equal logits tie everywhere: every token is unusual, more than a CPU checks; the layer is narrow for their number.
        tokens = 1200
        tensors = {"routing_logits": ("F32", [tokens, 16], bytes(4 * tokens * 16))}
        write_safetensors(self.folder / "logits.safetensors", tensors)
        source = {"type": "safetensors", "path": "logits.safetensors", "tensor_key": "routing_logits"}
        bias = {"type": "safetensors", "path": "bias.safetensors", "tensor_key": "routing_bias"}
        write_safetensors(self.folder / "bias.safetensors", {"routing_bias": ("F32", [16], bytes(64))})
        inputs = {"routing_logits": source, "routing_bias": bias}
        narrow = {**GEOMETRY, "hidden": 128, "intermediate": 128}
        rows = self.write_rows(row("a", tokens, geometry=narrow, inputs=inputs))
        arguments = ("verify", "--workloads", rows, "--device", "cpu", "--dump-json", "report.json")
        for oracle, checked in (("sample", range(1024, 1200)), ("full", range(1200, 1201))):
            with self.subTest(oracle):
                done = self.blockmoe(*arguments, "--oracle", oracle, dataset=self.folder)
                report = json.loads((self.folder / "report.json").read_text())
                found = report["results"][0]["agent"]
                self.assertEqual(found["unusual_tokens"], tokens)
                self.assertIn(found["unusual_checked"], checked)
                self.assertIn(f"tokens of unusual routing (ties, NaN, Inf): 1200, {found['unusual_checked']} of them", done.stdout)
                self.assertEqual(["were not checked" in note for note in report["notes"]].count(True), int(oracle == "sample"))

    def test_hostile_routings_pass_and_show_in_the_rows(self):
        rows = self.write_rows(row("a", 60))
        counts = {}
        for routing in ("even", "zipf", "zipf:2", "all-on-one", "one-row", "none-local"):
            found = self.verify("--workloads", rows, "--routing", routing)["results"][0]["agent"]
            counts[routing] = (found["rows"], found["active_experts"])
        self.assertEqual(counts["all-on-one"], (60, 1))
        self.assertEqual(counts["none-local"], (0, 0))
        self.assertGreater(counts["one-row"][1], 1)
        self.assertNotEqual(counts["one-row"], counts["even"])
        self.assertGreater(counts["even"][1], 1)

    def test_a_call_without_tokens_passes(self):
        report = self.verify("--workloads", self.write_rows(row("none", 0)))
        self.assertTrue(report["all_passed"])

    def test_seed_changes_what_is_drawn_and_the_same_seed_repeats_it(self):
        rows = self.write_rows(row("a", 9))

        def errors(*seed):
            return self.verify("--workloads", rows, *seed)["results"][0]["agent"]["comparison"]

        self.assertEqual(errors("--seed", "1"), errors("--seed", "1"))
        self.assertNotEqual(errors("--seed", "1"), errors("--seed", "2"))
        self.assertEqual(errors("--threads", "1"), errors("--threads", "2"))


class Output(CliTest):
    def test_table_has_a_line_a_shape_and_the_sums(self):
        rows = self.write_rows(row("first", 3), row("second", 11))
        text = self.blockmoe("verify", "--workloads", rows).stdout
        self.assertRegex(text, r"(?m)^uuid +T +experts +rows +matched +L2 requant +L2 plain +latency us +result")
        self.assertRegex(text, r"(?m)^first +3 .* pass .*at token \d+, column \d+: got .*, expected ")
        self.assertRegex(text, r"(?m)^second +11 ")
        for line in ("2/2 passed", "tolerances: atol 1, rtol 0.3, required matched ratio 0.9", "mean latency: ", "gates: "):
            self.assertRegex(text, rf"(?m)^{line}")

    def test_quiet_prints_the_verdict_alone(self):
        done = self.blockmoe("verify", "--workloads", self.write_rows(row("a", 3)), "--quiet")
        self.assertEqual((done.stdout, done.stderr), ("1/1 passed\n", ""))

    def test_progress_is_for_terminals_only(self):
        rows = self.write_rows(row("a", 3))
        self.assertEqual(self.blockmoe("verify", "--workloads", rows).stderr, "")
        for quiet in (False, True):
            ours, theirs = pty.openpty()
            command = [BLOCKMOE, "verify", "--workloads", rows] + ["--quiet"] * quiet
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True,
                                  timeout=240, check=True)
            os.write(theirs, b"end")
            shown = os.read(ours, 65536).decode()
            os.close(ours)
            os.close(theirs)
            self.assertEqual("1/1 a T=3" in shown, not quiet, repr(shown))
            self.assertNotIn("\033", done.stdout)

    def test_json_can_go_to_a_pipe(self):
        done = self.blockmoe("verify", "--workloads", self.write_rows(row("a", 3)), "--quiet", "--dump-json", "/dev/stderr")
        self.assertEqual(json.loads(done.stderr)["passed_count"], 1)

    def test_an_unwritable_report_is_refused_before_anything_runs(self):
        rows = self.write_rows(row("a", 3))
        missing = self.folder / "no" / "such" / "report.json"
        done = self.assert_refused("verify", "--workloads", rows, "--dump-json", missing, says=["--dump-json", "no folder"])
        self.assertEqual(done.stdout, "")
        self.assert_refused("verify", "--workloads", rows, "--dump-json", self.folder, says="is a folder")

    def test_a_run_that_is_refused_leaves_the_old_report(self):
        report = self.folder / "report.json"
        report.write_text("old")
        self.assert_refused("verify", "--workloads", "missing.jsonl", "--dump-json", report, says="missing.jsonl")
        self.assertEqual(report.read_text(), "old")
        self.assertEqual([p.name for p in self.folder.iterdir()], ["report.json"])


class Selection(CliTest):
    def setUp(self):
        super().setUp()
        self.rows = self.write_rows(row("aa01", 1), row("aa02", 2, split="test"), row("bb03", 3, split="dev"))

    def selected(self, *arguments):
        return [r["uuid"] for r in self.verify("--workloads", self.rows, *arguments)["results"]]

    def test_dev_is_the_default_split_of_rows_and_of_the_command(self):
        self.assertEqual(self.selected(), ["aa01", "bb03"])

    def test_all_takes_every_split(self):
        self.assertEqual(self.selected("--all"), ["aa01", "aa02", "bb03"])

    def test_uuids_select_from_every_split_in_the_files_order(self):
        self.assertEqual(self.selected("--uuid", "bb03", "--uuid", "aa02"), ["aa02", "bb03"])

    def test_a_beginning_that_one_row_has_is_enough(self):
        self.assertEqual(self.selected("--uuid", "b"), ["bb03"])
        self.assert_refused("verify", "--workloads", self.rows, "--uuid", "aa", says="--uuid aa: 2 rows")

    def test_an_unknown_uuid_is_refused(self):
        self.assert_refused("verify", "--workloads", self.rows, "--uuid", "cc", says=["--uuid cc", str(self.rows)])

    def test_nothing_selected_is_refused(self):
        rows = self.write_rows(row("a", 1, split="test"), name="test.jsonl")
        self.assert_refused("verify", "--workloads", rows, says=["split dev", "--all"])


class BadFiles(CliTest):
    def refused_text(self, text, says):
        path = self.folder / "bad.jsonl"
        path.write_text(text)
        self.assert_refused("verify", "--workloads", path, says=says)

    def test_a_missing_file_is_named(self):
        self.assert_refused("verify", "--workloads", "no-such.jsonl", says="no-such.jsonl")

    def test_a_bad_line_is_named_by_its_number(self):
        good = json.dumps(row("a", 1))
        for bad in ('{"uuid": "b", "T": ', '{"uuid": "b"}', '{"uuid": "b", "T": -1}', '{"uuid": "b", "T": "1"}', "[1]",
                    '{"uuid": "a", "T": 1}', '{"uuid": "b", "T": 99999999999999999999}'):
            with self.subTest(bad):
                self.refused_text(f"{good}\n\n{bad}\n", says="bad.jsonl:3: ")

    def test_an_empty_file_is_refused(self):
        self.refused_text("", says="bad.jsonl")

    def test_a_geometry_that_no_backend_takes_is_refused(self):
        self.refused_text('{"uuid": "a", "T": 1, "geometry": {"hidden": 100}}\n', says=["bad.jsonl:1", "hidden", "100"])


class DataSet(CliTest):
    def test_a_path_that_is_no_folder_is_refused_by_every_reader_of_rows(self):
        rows = self.write_rows(row("a", 1))
        for command in (("verify",), ("bench",), ("run", "--uuid", "a")):
            for path in (self.folder / "missing", rows):
                with self.subTest(f"{command} {path.name}"):
                    self.assert_refused(*command, "--workloads", rows, dataset=path, says=f"FIB_DATASET_PATH: {path}")

    def test_an_empty_path_is_none(self):
        self.blockmoe("verify", "--workloads", self.write_rows(row("a", 1)), dataset="")

    def test_a_data_set_without_the_row_is_said(self):
        # A definition of the small geometry, since built-in ones are the full size.
        shipped = HERE.parents[1] / "workloads/moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h7168_i2048.json"
        definition = json.loads(shipped.read_text())
        name = definition["name"] = "small_topk4_ng4_kg2"
        sizes = {"num_experts": 16, "num_local_experts": 8, "hidden_size": 512, "intermediate_size": 1024,
                 "gemm1_out_size": 2048, "num_hidden_blocks": 4, "num_intermediate_blocks": 8, "num_gemm1_out_blocks": 16}
        for axis, size in sizes.items():
            definition["axes"][axis]["value"] = size
        known = self.folder / "data/definitions/moe" / f"{name}.json"
        known.parent.mkdir(parents=True)
        known.write_text(json.dumps(definition))
        rows = self.write_rows({"uuid": "abcd", "T": 2, "definition": name})
        official = self.folder / "data/workloads/moe" / f"{name}.jsonl"
        official.parent.mkdir(parents=True)
        inner = {"uuid": "ffff-1234", "axes": {"seq_len": 2}, "inputs": {}}
        official.write_text(json.dumps({"definition": name, "workload": inner}) + "\n")
        done = self.blockmoe("verify", "--workloads", rows, dataset=self.folder / "data")
        self.assertIn(f"drawn: {self.folder}/data has no row of {name} with T = 2 whose uuid begins with abcd\n", done.stdout)


class ShippedShapes(CliTest):
    def test_the_benchmarks_19_shapes_come_with_the_command(self):
        # Read only: --metadata with an agent's command keeps the full-size layer from running.
        command = "echo '{{\"passed\": true, \"latency_us\": 1}}' # {uuid}"
        report = self.verify("--all", "--agent-cmd", command)
        self.assertEqual(report["workload_count"], 19)
        self.assertEqual([r["T"] for r in report["results"]],
                         [1, 7, 14, 15, 16, 32, 52, 53, 54, 55, 56, 57, 58, 59, 62, 80, 901, 11948, 14107])
        self.assertNotIn("/", report["workload_file"])


if __name__ == "__main__":
    unittest.main()
