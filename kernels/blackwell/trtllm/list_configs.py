#!/usr/bin/env python3
"""list_configs.py METAINFO OUT: of flashinfer-cubin's list of batched-GEMM configurations, those that configs.cpp may choose from.

The whole list, 6 MB of text, takes a compiler half a minute, and 9 ms of every program's start to construct. This only leaves rows
out, by the text of a few options; configs.cpp looks at all of what remains.
"""

import pathlib
import sys

ROW = "{nullptr, 0, "
# The options are in each row as `/* name */ value`.
WANTED = (
    "bmm_Bfloat16_E4m3E4m3_Fp32_",
    "/* mUseDeepSeekFp8 */ 1\n",
    "/* mTransposeMmaOutput */ 1\n",
    "/* mUseShuffledMatrix */ 0\n",
    "/* mIsStaticBatch */ 0\n",
    "/* mLayoutA */ gemm::MatrixLayout(0)\n",
)
# Theirs names the header by the place where FlashInfer puts it.
THEIR_INCLUDE = "#include <flashinfer/trtllm/batched_gemm/trtllmGen_bmm_export/BatchedGemmOptions.h>"
OUR_INCLUDE = "#include <trtllmGen_bmm_export/BatchedGemmOptions.h>"


def only_wanted(text: str) -> str:
    head, *rows = text.replace(THEIR_INCLUDE, OUR_INCLUDE).split("\n" + ROW)
    if not rows:
        raise SystemExit("no row in the list of configurations: is this flashinfer-cubin 0.6.8.post1 or later?")
    last, end, tail = rows[-1].partition("\n#endif")
    rows[-1] = last
    kept = [row for row in rows if all(option in row + "\n" for option in WANTED)]
    if not kept:
        raise SystemExit(f"none of {len(rows)} configurations has the options wanted: {', '.join(map(str.strip, WANTED))}")
    return "".join([head, *("\n" + ROW + row for row in kept), end, tail])


def main() -> None:
    source, target = map(pathlib.Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(only_wanted(source.read_text()))


if __name__ == "__main__":
    main()
