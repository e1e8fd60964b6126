#!/usr/bin/env bash
# test.sh: every check of `make test`, going on after one fails, then the count of all tests and the parts that failed.
set -uo pipefail
cd "$(dirname "$0")/.."

parts=(format-check test-build test-python test-sanitized test-fuzz tidy)
failed=()
rm -f build/*/*tests.xml
for part in "${parts[@]}"; do
  echo "==> make $part"
  start=$SECONDS
  make --no-print-directory "$part" || failed+=("$part")
  echo "==> make $part: $((SECONDS - start)) s"
done

# Loud, not red: this machine may have no GPU. `make release-check` fails on it.
tools/test_gpu.py check --record bench/results/gpu-tests.json || true
[ ${#failed[@]} -eq 0 ] || echo "failed: ${failed[*]}"
python3 tools/test_summary.py --failed-parts ${#failed[@]} build/*/*tests.xml
