#!/usr/bin/env bash
# test_python.sh BUILD WORK REQUIREMENTS...: builds the wheel on the library that the folder BUILD holds, checks and tags it,
# installs it into an environment of its own in WORK, and there checks its types and runs its tests. WORK/wheel has the wheel,
# WORK/tests.xml the results.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 work=$2
shift 2
rm -rf "$work/wheel" "$work/built" "$work/tests.xml"
mkdir -p "$work"
export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

quietly() {
  local log
  log=$("$@" 2>&1) || { echo "$log"; return 1; }
}

# The library as it is installed, so that nothing of it is compiled again.
quietly cmake --install "$build" --prefix "$work/prefix"
quietly .venv/bin/pip wheel . --no-deps --no-build-isolation -w "$work/built" \
  -C cmake.define.BLOCKMOE_PREFIX="$PWD/$work/prefix" -C cmake.define.Python_EXECUTABLE="$PWD/.venv/bin/python3"
PATH="$PWD/.venv/bin:$PATH" quietly .venv/bin/auditwheel repair --exclude libtvm_ffi.so --plat auto -w "$work/wheel" "$work"/built/*.whl
python3 tools/check_wheel.py "$work"/wheel/*.whl

# An environment is made anew when what belongs into it changes.
environment="$work/venv-$(cat "$@" | sha256sum | cut -c1-16)"
if [ ! -e "$environment/complete" ]; then
  rm -rf "$work"/venv-*
  python3 -m venv "$environment"
  for file in "$@"; do
    echo "test-python: installing $file"
    quietly "$environment/bin/pip" install --quiet --require-hashes --no-deps --only-binary :all: -r "$file"
  done
  touch "$environment/complete"
fi
quietly "$environment/bin/pip" install --quiet --no-deps --no-index --force-reinstall "$work"/wheel/*.whl

quietly "$environment/bin/mypy" --cache-dir "$work/mypy"
"$environment/bin/python" -m pytest -q -p no:cacheprovider --junitxml="$work/tests.xml" tests/python
