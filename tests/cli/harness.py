"""What the tests of the command share: a folder of their own, the program, rows of a small geometry, file readers.

The program is the one that the environment's BLOCKMOE names.
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BLOCKMOE = os.environ["BLOCKMOE"]
FAKE_AGENT = f"{sys.executable} {HERE / 'fake_agent.py'}"

# Wide enough for the gates of the numerics contract, which speak of averages over a row's blocks.
GEOMETRY = {
    "hidden": 512, "intermediate": 1024, "experts": 16, "local_experts": 8, "top_k": 4, "n_group": 4, "topk_group": 2,
}


def row(uuid, tokens, **more):
    return {"uuid": uuid, "T": tokens, "geometry": GEOMETRY, **more}


class CliTest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="blockmoe-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def blockmoe(self, *arguments, code=0, dataset=None, **more):
        """Runs the command in the test's folder; the exit code must be `code`. `dataset` is the FIB_DATASET_PATH."""
        environment = {key: value for key, value in os.environ.items() if key != "FIB_DATASET_PATH"}
        if dataset is not None:
            environment["FIB_DATASET_PATH"] = str(dataset)
        done = subprocess.run([BLOCKMOE, *map(str, arguments)], cwd=self.folder, env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False, **more)
        self.assertEqual(done.returncode, code, f"{arguments}\n{done.stdout}\n{done.stderr}")
        return done

    def write_rows(self, *rows, name="rows.jsonl"):
        path = self.folder / name
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return path

    def verify(self, *arguments, code=0):
        """`verify` with --dump-json; gives back the report, which must be as the schema says."""
        self.blockmoe("verify", *arguments, "--dump-json", "report.json", code=code)
        report = json.loads((self.folder / "report.json").read_text())
        schema("verify")(report)
        return report

    def assert_refused(self, *arguments, says, **more):
        """Exit code 2, with a message on standard error that holds every string of `says`."""
        done = self.blockmoe(*arguments, code=2, **more)
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, done.stderr)
        return done


def schema(name):
    """The check of <name>.schema.json: a function that raises where a report is not as it must be."""
    try:
        import fastjsonschema
    except ImportError as error:
        raise RuntimeError(f"{sys.executable} lacks fastjsonschema; `make setup` installs requirements/test.txt") from error
    return fastjsonschema.compile(json.loads((HERE / f"{name}.schema.json").read_text()))


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    header.pop("__metadata__", None)
    data = content[8 + length:]
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in header.items()}


def read_metadata(path):
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8:8 + length]).get("__metadata__", {})


def write_safetensors(path, tensors, metadata=None):
    """The inverse of read_safetensors and read_metadata."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)
