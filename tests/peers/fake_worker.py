#!/usr/bin/env python3
"""Stands in for bench/peers/worker.py. FAKE_PEERS has what each peer does: {peer: {T: "ok" | "wrong" | "dies" | "dies masked" | "hangs" | "ours"}}:
the last word of "dies masked" names the way that takes the process along, of the two that each peer has. "ours": blockmoe fails beside it.

A peer that FAKE_PEERS does not have is not installed. What was asked is appended to FAKE_ASKED, a line of JSON each.
"""

import argparse
import json
import os
import sys
import time


def send(message: dict) -> None:
    print(json.dumps(message), flush=True)


def sample(us: float) -> dict:
    return {"median": us, "p10": us - 1, "p90": us + 1}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--peer")
    options.add_argument("--max-tokens", type=int)
    options.add_argument("--runs", type=int)
    options.add_argument("--reader")
    given = options.parse_args()
    behaviour = json.loads(os.environ["FAKE_PEERS"]).get(given.peer)
    if behaviour is None:
        send({"ok": False, "error": f"ModuleNotFoundError: No module named '{given.peer}'"})
        return
    send(
        {
            "ok": True,
            "title": given.peer.title(),
            "part": "whole",
            "takes": "e4m3",
            "versions": os.environ.get("PYTHONPATH", ""),
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        with open(os.environ["FAKE_ASKED"], "a") as asked:
            print(json.dumps({"peer": given.peer, **request}), file=asked)
        t = request["T"]
        if request["do"] == "compile":
            send({"ok": True, "T": t, "failed": {}})
            continue
        does = behaviour.get(str(t), "ok")
        if does == "dies":
            os._exit(3)
        ways = [way for way in ("masked", "contiguous") if way not in request["without"]]
        if not ways:
            send({"ok": False, "T": t, "error": "NoneLeft: no way is left", "lost": False, "none_left": True})
            continue
        for way in ways:
            send({"trying": way})
            if way in does.split()[1:]:
                os._exit(3)
        if does == "hangs":
            time.sleep(600)
        if does == "wrong":
            send({"ok": False, "T": t, "error": "ValueError: relative error 0.9, at most 0.03 expected", "lost": False})
            continue
        ours = {"deepgemm_mega": 100.0, "sglang_triton": 110.0}.get(given.peer, 105.0)
        send(
            {
                "ok": True,
                "T": t,
                "active_experts": 4,
                "rows": 10,
                "path": "hopper/one",
                "read_us": 80.0 if given.reader else None,
                "ours": None if does == "ours" else sample(ours),
                "ours_error": "ValueError: blockmoe: relative error 0.5" if does == "ours" else "",
                "peer": sample(2 * ours),
                "relative_error": 0.023,
                "choice": ways[0],
                "candidates": {way: 210.0 for way in ways},
                "failed": {},
            }
        )


if __name__ == "__main__":
    main()
