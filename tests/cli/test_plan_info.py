"""`plan` and `info`, for people and for machines."""

import json
import unittest

from harness import GEOMETRY, CliTest


class Plan(CliTest):
    def test_json_has_path_reasons_and_workspace(self):
        options = [f"--{key.replace('_', '-')}={value}" for key, value in GEOMETRY.items()]
        plan = json.loads(self.blockmoe("plan", "--json", "--backend", "cpu", "--max-tokens", "64", *options).stdout)
        self.assertEqual(list(plan), ["device", "geometry", "max_tokens", "backend", "path", "gemm1_path", "gemm2_path",
                                      "explain", "workspace"])
        self.assertEqual(plan["geometry"], GEOMETRY)
        self.assertEqual(plan["max_tokens"], 64)
        self.assertEqual(plan["backend"], "cpu")
        self.assertTrue(plan["path"].startswith("cpu/"))
        self.assertTrue(all(plan["explain"]))
        self.assertGreater(plan["workspace"]["bytes"], 0)
        self.assertIn(plan["workspace"]["init"], ("anything", "zeroed_once"))

    def test_workspace_grows_with_the_largest_call(self):
        def need(tokens):
            return json.loads(self.blockmoe("plan", "--json", "--backend", "cpu", "--max-tokens", tokens).stdout)["workspace"]["bytes"]

        self.assertLess(need(1), need(1000))

    def test_text_says_the_same(self):
        text = self.blockmoe("plan", "--backend", "cpu").stdout
        for line in (r"device +cpu ", r"geometry +H 7168, I 2048, E 256, L 32", r"max tokens +4096", r"path +cpu/",
                     r"workspace +\d+ bytes, aligned to \d+", r"why\n  \S"):
            self.assertRegex(text, rf"(?m)^{line}")

    def test_pruning_is_said(self):
        flags = ("--backend", "cpu", "--max-local-picks", "3", "--min-weight-share", "0.05")
        text = self.blockmoe("plan", *flags).stdout
        self.assertRegex(text, r"(?m)^path +cpu/\w+ PRUNED$")
        self.assertRegex(text, r"(?m)^  PRUNED, not exact: local picks with less than 0.05 of .*; of local picks stay the 3 of ")
        plan = json.loads(self.blockmoe("plan", "--json", *flags).stdout)
        self.assertTrue(plan["path"].endswith(" PRUNED"))
        self.assertTrue(plan["explain"][-1].startswith("PRUNED"))
        self.assertEqual((plan["gemm1_path"], plan["gemm2_path"]), (plan["path"][:-7],) * 2)
        self.assert_refused("plan", "--backend", "cpu", "--max-local-picks", "9", says="max_local_picks: 9, expected 0 to 8")

    def test_the_intermediates_type_is_said_and_counts(self):
        def plan(*flags):
            return json.loads(self.blockmoe("plan", "--json", "--backend", "cpu", "--max-tokens", "4096", *flags).stdout)

        one, two = plan(), plan("--intermediate-type", "e4m3x2")
        self.assertIn("intermediate: e4m3x2, a code and one of what it leaves over", two["explain"])
        self.assertFalse(any(line.startswith("intermediate: ") for line in one["explain"]))
        self.assertGreater(two["workspace"]["bytes"], one["workspace"]["bytes"])

    def test_wrong_requests_are_refused(self):
        self.assert_refused("plan", "--max-tokens", "-1", says=["--max-tokens", "-1"])
        self.assert_refused("plan", "--hidden", "100", says=["--hidden", "100"])
        self.assert_refused("plan", "--device", "toaster", says=["--device", "toaster", "cuda:N"])
        self.assert_refused("plan", "--device", "sm_12345", says=["--device", "sm_12345", "sm_90"])
        self.assert_refused("plan", "--device", "sm_90a", "--backend", "cpu", says="cpu")


class Blackwell(CliTest):
    """What would run on a B200, which is not here, in builds with its products and without."""

    def setUp(self):
        super().setUp()
        info = json.loads(self.blockmoe("info", "--json").stdout)
        self.cuda = info["build"]["cuda"]
        self.on_b200 = next(b for b in info["backends"] if b["device"] == "sm_100a")
        if not self.cuda:
            self.skipTest("this build has no GPU backends")

    def plan(self, *options):
        return json.loads(self.blockmoe("plan", "--json", "--device", "sm_100a", *options).stdout)

    def test_the_plan_says_what_runs_or_which_option_and_package_are_missing(self):
        self.assertEqual(self.on_b200["backend"], "blackwell")
        plan = self.plan()
        if self.on_b200["runs"]:
            self.assertEqual(plan["backend"], "blackwell")
            explain = "\n".join(plan["explain"])
            for line in (r"policy: auto: .+", r"gemm1: cutlass: tcgen05 on e4m3.+; not run on a B200", r"gemm2: cutlass: .+; not run on a B200"):
                self.assertRegex(explain, rf"(?m)^{line}$")
        else:
            self.assertEqual(plan["backend"], "portable")
            why = next(line for line in plan["explain"] if line.startswith("not blackwell: "))
            for word in ("BLOCKMOE_BLACKWELL=ON", "nvidia-cutlass", "gemm1: cutlass", "gemm2: cutlass", "tiles"):
                self.assertIn(word, why)
                self.assertIn(word, self.on_b200["why_not"])
            self.assert_refused("plan", "--device", "sm_100a", "--backend", "blackwell", says=["BLOCKMOE_BLACKWELL=ON", "nvidia-cutlass"])

    def test_reference_b200_has_the_originals_tiles(self):
        text = "\n".join(self.plan("--policy", "reference_b200", "--max-tokens", "16384")["explain"])
        self.assertIn("64x128 up to 1 rows, 64x256 up to 2048 rows, 128x128, by all rows", text)
        text = "\n".join(self.plan("--policy", "auto", "--max-tokens", "16384")["explain"])
        self.assertIn("128x128 up to 128 rows, 256x128 by two SMs, by each expert's rows", text)

    def test_it_does_not_offer_an_intermediate_of_two_terms(self):
        plan = self.plan("--intermediate-type", "e4m3x2")
        self.assertEqual(plan["backend"], "portable")
        self.assertTrue(any(line.startswith("not blackwell: intermediate_type: ") for line in plan["explain"]), plan["explain"])
        self.assertTrue(any(line.startswith("intermediate: e4m3x2") for line in plan["explain"]), plan["explain"])
        self.assert_refused("plan", "--device", "sm_100a", "--backend", "blackwell", "--intermediate-type", "e4m3x2",
                            says=["intermediate_type", "e4m3x2"])

    def test_a_policy_that_needs_what_is_missing_falls_back_and_says_so(self):
        text = "\n".join(self.plan("--policy", "trtllm")["explain"])
        self.assertRegex(text, r"trtllm: .+: cutlass runs in its place|gemm1: trtllm: ")

    def test_its_switches_are_checked(self):
        self.assert_refused("plan", "--policy", "best", says=["--policy", "best", "reference_b200"])
        self.assert_refused("plan", "--trtllm-gemm1", "2", says=["--trtllm-gemm1", "2"])
        self.assert_refused("plan", "--trtllm-gemm2", "-1", says=["--trtllm-gemm2", "-1"])
        self.assert_refused("plan", "--mma-gemm2-m-threshold", "-1", says=["--mma-gemm2-m-threshold", "-1"])
        self.assert_refused("plan", "--trtllm-gemm2-m-threshold", "0", says=["--trtllm-gemm2-m-threshold", "0"])

    def test_a_threshold_brings_the_third_gemm2_in(self):
        def explain(*options):
            return "\n".join(self.plan("--policy", "reference_b200", "--max-tokens", "4096", *options)["explain"])

        self.assertNotIn("mma: the portable path's", explain())
        self.assertIn("mma: the portable path's", explain("--mma-gemm2-m-threshold", "2048"))
        self.assertNotIn("mma: the portable path's", explain("--mma-gemm2-m-threshold", "40000"))


class Info(CliTest):
    def test_json_tells_build_devices_and_backends(self):
        info = json.loads(self.blockmoe("info", "--json").stdout)
        self.assertEqual(list(info), ["version", "build", "cublaslt", "trtllm", "cpu_instruction_sets", "devices", "backends"])
        self.assertEqual(list(info["build"]), ["cuda", "nvtx", "compiler"])
        for has in (info["build"]["cuda"], info["build"]["nvtx"], info["cublaslt"], info["trtllm"]):
            self.assertIn(has, (True, False) if info["build"]["cuda"] else (False,))
        self.assertIn("plain", info["cpu_instruction_sets"])
        self.assertEqual(info["devices"][0]["device"], "cpu")
        self.assertGreater(info["devices"][0]["sm_count"], 0)
        cpu = [b for b in info["backends"] if b["backend"] == "cpu"]
        self.assertEqual([b["runs"] for b in cpu], [True])
        self.assertTrue(cpu[0]["path"].startswith("cpu/"))
        for backend in info["backends"]:
            self.assertTrue(backend["path"] if backend["runs"] else backend["why_not"])

    def test_text_names_every_backend(self):
        text = self.blockmoe("info").stdout
        self.assertRegex(text, r"(?m)^NVTX ranges around the stages: (yes|no)$")
        self.assertRegex(text, r"(?m)^cuBLASLt, for the product rates of bench: \S")
        for name in ("cpu", "portable", "hopper", "blackwell"):
            self.assertRegex(text, rf"(?m)^  {name} +on ")


if __name__ == "__main__":
    unittest.main()
