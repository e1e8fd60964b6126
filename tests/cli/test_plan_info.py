"""`plan` and `info`, for people and for machines."""

import json
import unittest

from harness import GEOMETRY, CliTest


class Plan(CliTest):
    def test_json_has_path_reasons_and_workspace(self):
        options = [f"--{key.replace('_', '-')}={value}" for key, value in GEOMETRY.items()]
        plan = json.loads(self.blockmoe("plan", "--json", "--backend", "cpu", "--max-tokens", "64", *options).stdout)
        self.assertEqual(list(plan), ["device", "geometry", "max_tokens", "backend", "path", "explain", "workspace"])
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

    def test_wrong_requests_are_refused(self):
        self.assert_refused("plan", "--max-tokens", "-1", says=["--max-tokens", "-1"])
        self.assert_refused("plan", "--hidden", "100", says=["--hidden", "100"])
        self.assert_refused("plan", "--device", "toaster", says=["--device", "toaster", "cuda:N"])
        self.assert_refused("plan", "--device", "sm_12345", says=["--device", "sm_12345", "sm_90"])
        self.assert_refused("plan", "--device", "sm_90a", "--backend", "cpu", says="cpu")


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
        for name in ("cpu", "portable", "hopper"):
            self.assertRegex(text, rf"(?m)^  {name} +on ")


if __name__ == "__main__":
    unittest.main()
