#!/usr/bin/env bash
# test.sh: every check of `make test`, going on after one fails, then the count of all tests and the parts that failed.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
mkdir -p build
rm -f build/*/*tests.xml

run() {
  local start=$SECONDS status=0
  echo "==> make $1"
  make --no-print-directory "$1" || status=1
  echo "==> make $1: $((SECONDS - start)) s"
  return $status
}

for part in format-check test-build; do run $part || failed+=("$part"); done
# One process at a time (pip, the wheel, mypy, pytest): beside the rest, and shown when it has ended.
run test-python-torch >build/test-python.log 2>&1 &
python=$!
for part in test-sanitized test-fuzz tidy; do run $part || failed+=("$part"); done
wait $python || failed+=(test-python-torch)
cat build/test-python.log

# Loud, not red: this machine may have no GPU. `make release-check` fails on it.
tools/test_gpu.py check --record bench/results/gpu-tests.json || true
[ ${#failed[@]} -eq 0 ] || echo "failed: ${failed[*]}"
python3 tools/test_summary.py --failed-parts ${#failed[@]} build/*/*tests.xml
