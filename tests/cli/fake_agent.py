"""Stands for somebody's implementation: prints the JSON that `verify` asks of a command, as the flags say.

fake_agent.py [--latency US] [--fail] [--echo TEXT]... : `echoed` in the JSON is the list of TEXTs.
"""

import argparse
import json

parser = argparse.ArgumentParser()
parser.add_argument("--latency", type=float, default=100.0)
parser.add_argument("--fail", action="store_true")
parser.add_argument("--echo", action="append", default=[])
arguments = parser.parse_args()
print("a line that is not JSON")
print(json.dumps({"passed": False, "latency_us": 1.0, "echoed": "an earlier line, which does not count"}))
print(json.dumps({"passed": not arguments.fail, "latency_us": arguments.latency, "echoed": arguments.echo}))
