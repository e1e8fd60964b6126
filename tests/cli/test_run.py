"""`run`: workloads, drawn inputs, files of inputs, the output's file."""

import struct
import unittest

from harness import GEOMETRY, CliTest, read_metadata, read_safetensors, row, write_safetensors

SMALL = [f"--{key.replace('_', '-')}={value}" for key, value in GEOMETRY.items()]


def bf16(content):
    return [struct.unpack("<f", b"\0\0" + content[i:i + 2])[0] for i in range(0, len(content), 2)]


class Run(CliTest):
    def test_a_row_runs_and_its_output_can_be_read_back(self):
        rows = self.write_rows(row("a", 6))
        text = self.blockmoe("run", "--workloads", rows, "--uuid", "a", "--backend", "cpu", "--output", "out.safetensors").stdout
        self.assertRegex(text, r"^6 tokens, [1-9]\d* rows, [1-9]\d* of 8 local experts active, on cpu/")
        self.assertRegex(text, r"(?m)^[\d.]+ us \([\d.]+ to [\d.]+\), the median of \d+ runs: whole calls")
        tensors = read_safetensors(self.folder / "out.safetensors")
        self.assertEqual(list(tensors), ["output"])
        dtype, shape, content = tensors["output"]
        self.assertEqual((dtype, shape, len(content)), ("BF16", [6, 512], 6 * 512 * 2))
        self.assertTrue(any(value != 0 for value in bf16(content)))

    def test_a_pruned_output_is_marked(self):
        rows = self.write_rows(row("a", 6))
        flags = ("run", "--workloads", rows, "--uuid", "a", "--backend", "cpu", "--output", "out.safetensors")
        exact = self.blockmoe(*flags).stdout
        self.assertNotIn("PRUNED", exact)
        self.assertEqual(read_metadata(self.folder / "out.safetensors"), {})
        text = self.blockmoe(*flags, "--max-local-picks", "1").stdout
        self.assertRegex(text, r"(?m)^PRUNED: at most 1 local pick a token$")
        self.assertRegex(text, r"on cpu/\w+ PRUNED\n")
        self.assertEqual(read_metadata(self.folder / "out.safetensors"), {"pruning": "PRUNED: at most 1 local pick a token"})

    def test_saved_inputs_give_the_same_output(self):
        self.blockmoe("run", "--tokens", "9", *SMALL, "--seed", "3", "--local-expert-offset", "4", "--routed-scaling-factor",
                      "1.5", "--save-inputs", "in.safetensors", "--output", "first.safetensors")
        text = self.blockmoe("run", "--inputs", "in.safetensors", "--output", "second.safetensors").stdout
        self.assertIn("routing: top_k 4, n_group 4, topk_group 2, local experts 4 to 11 of 16, factor 1.5\n", text)
        first, second = (self.folder / f"{name}.safetensors" for name in ("first", "second"))
        self.assertEqual(read_safetensors(first), read_safetensors(second))
        inputs = read_safetensors(self.folder / "in.safetensors")
        self.assertEqual(inputs["routing_logits"][:2], ("F32", [9, 16]))
        self.assertEqual(inputs["hidden_states"][:2], ("F8_E4M3", [9, 512]))
        self.assertEqual(inputs["hidden_states_scale"][:2], ("F32", [4, 9]))
        self.assertEqual(inputs["gemm1_weights"][:2], ("F8_E4M3", [8, 2048, 512]))
        self.assertEqual(inputs["gemm2_weights_scale"][:2], ("F32", [8, 4, 8]))

    def test_saved_inputs_say_how_they_are_routed_and_nothing_may_contradict(self):
        self.blockmoe("run", "--tokens", "2", *SMALL, "--local-expert-offset", "4", "--save-inputs", "in.safetensors")
        self.assertEqual(read_metadata(self.folder / "in.safetensors"), {"top_k": "4", "n_group": "4", "topk_group": "2"})
        self.blockmoe("run", "--inputs", "in.safetensors", "--top-k", "4", "--n-group", "4", "--local-expert-offset", "4")
        for option, value, says in (("--top-k", "3", "3, expected 4"), ("--n-group", "2", "2, expected 4"),
                                    ("--topk-group", "1", "1, expected 2"), ("--local-expert-offset", "0", "0, expected 4"),
                                    ("--routed-scaling-factor", "1.5", "1.5, expected 2.5")):
            with self.subTest(option):
                self.assert_refused("run", "--inputs", "in.safetensors", option, value,
                                    says=f"{option}: {says} (in.safetensors says so)")

    def test_routing_in_the_metadata_that_is_no_number_is_named(self):
        self.blockmoe("run", "--tokens", "2", *SMALL, "--save-inputs", "in.safetensors")
        tensors = read_safetensors(self.folder / "in.safetensors")
        for value in ("four", "", "4 ", "99999999999"):
            with self.subTest(value):
                write_safetensors(self.folder / "bad.safetensors", tensors, {"top_k": value})
                self.assert_refused("run", "--inputs", "bad.safetensors", says=["bad.safetensors", "top_k", f'"{value}"'])

    def test_inputs_of_another_writer_give_the_value_that_they_must(self):
        # One expert, one token, H = I = 128, ones everywhere: gate = up = 128, silu(128) * 128 = 16384 a value, of which
        # gemm2 sums 128 in one block of scale 1; the routing weight of the only pick is the scaling factor.
        one = b"\x38"
        write_safetensors(self.folder / "in.safetensors", {
            "routing_logits": ("F32", [1, 1], struct.pack("<f", 0.5)),
            "hidden_states": ("U8", [1, 128], one * 128),
            "hidden_states_scale": ("F32", [1, 1], struct.pack("<f", 1)),
            "gemm1_weights": ("F8_E4M3", [1, 256, 128], one * 256 * 128),
            "gemm1_weights_scale": ("F32", [1, 2, 1], struct.pack("<2f", 1, 1)),
            "gemm2_weights": ("F8_E4M3", [1, 128, 128], one * 128 * 128),
            "gemm2_weights_scale": ("F32", [1, 1, 1], struct.pack("<f", 1)),
            "routed_scaling_factor": ("F32", [1], struct.pack("<f", 2)),
        })
        self.blockmoe("run", "--inputs", "in.safetensors", "--top-k", "1", "--n-group", "1", "--topk-group", "1", "--output",
                      "out.safetensors")
        _, shape, content = read_safetensors(self.folder / "out.safetensors")["output"]
        self.assertEqual(shape, [1, 128])
        self.assertEqual(set(bf16(content)), {2.0 * 128 * 16384})

    def test_quiet_prints_nothing(self):
        done = self.blockmoe("run", "--tokens", "2", *SMALL, "--quiet")
        self.assertEqual((done.stdout, done.stderr), ("", ""))

    def test_profiles_and_routings_apply(self):
        text = self.blockmoe("run", "--tokens", "5", *SMALL, "--profile", "model", "--routing", "none-local").stdout
        self.assertRegex(text, "^5 tokens, 0 rows, 0 of 8")


class Refusals(CliTest):
    def test_exactly_one_source_is_asked_for(self):
        self.assert_refused("run", says=["--uuid", "--tokens", "--inputs"])
        self.assert_refused("run", "--uuid", "e05c6c03", "--tokens", "1", says="--tokens")
        self.assert_refused("run", "--inputs", "x", "--tokens", "1", says="--tokens")
        self.assert_refused("run", "--uuid", "e05c6c03", "--hidden", "256", says="--hidden")
        self.assert_refused("run", "--inputs", "x", "--seed", "1", says="--seed")

    def test_a_geometry_that_cannot_be_is_named(self):
        self.assert_refused("run", "--tokens", "1", *SMALL[1:], "--hidden", "100", says=["--hidden", "100", "128"])
        self.assert_refused("run", "--tokens", "1", *SMALL[:4], "--top-k", "40", says=["--top-k", "40"])
        self.assert_refused("run", "--tokens", "-1", *SMALL, says="-1")

    def test_a_bad_file_of_inputs_names_file_and_tensor_and_leaves_the_output(self):
        output = self.folder / "out.safetensors"
        output.write_text("old")
        self.assert_refused("run", "--inputs", "missing.safetensors", "--output", output, says="missing.safetensors")
        (self.folder / "cut.safetensors").write_bytes(struct.pack("<Q", 1000) + b"{}")
        self.assert_refused("run", "--inputs", "cut.safetensors", "--output", output, says="cut.safetensors")
        write_safetensors(self.folder / "part.safetensors", {"routing_logits": ("F32", [1, 1], b"\0" * 4)})
        self.assert_refused("run", "--inputs", "part.safetensors", "--output", output, says=["part.safetensors", "gemm2_weights"])
        self.assertEqual(output.read_text(), "old")

    def test_outputs_that_are_no_plain_files_are_refused(self):
        self.assert_refused("run", "--tokens", "1", *SMALL, "--output", "/dev/null", says=["--output", "plain file"])
        self.assert_refused("run", "--tokens", "1", *SMALL, "--output", "no/such/out.safetensors", says="no folder")


if __name__ == "__main__":
    unittest.main()
