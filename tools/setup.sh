#!/usr/bin/env bash
# setup.sh build|test|python: installs what building (or also testing, or the wheel) needs and this machine lacks. Silent and quick when
# nothing is missing. CUDA=1: nvcc too, from PyPI, unless one is found.
set -euo pipefail
cd "$(dirname "$0")/.."

for_build="g++ make ninja-build cmake libfmt-dev libcli11-dev nlohmann-json3-dev libeigen3-dev libgtest-dev"
for_test="git clang libclang-rt-dev python3"
for_python="python3 iproute2" # ip: ranks on hosts of their own

want=$for_build
requirements=()
case "${1:-}" in
  build) ;;
  test)
    want="$want $for_test"
    requirements+=(requirements/tools.txt requirements/test.txt)
    ;;
  python)
    want="$want $for_python"
    requirements+=(requirements/test.txt requirements/wheel.txt)
    ;;
  *)
    echo "usage: tools/setup.sh build|test|python" >&2
    exit 2
    ;;
esac

# The same places as cmake/BlockmoeCuda.cmake; .venv is this script's own business.
has_nvcc() {
  [ "${BLOCKMOE_CUDA_SYSTEM:-ON}" != OFF ] || return 1
  [ -n "${CUDACXX:-}" ] || command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] ||
    [ -x /usr/local/cuda/bin/nvcc ]
}
if [ "${CUDA:-0}" = 1 ] && ! has_nvcc; then requirements+=(requirements/cuda.txt); fi
if [ ${#requirements[@]} -gt 0 ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then want="$want python3-venv"; fi

install_debian_packages() {
  local missing=() package
  for package in $want; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "setup: installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  local apt=("${as_root[@]}" apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}")
  # A list of packages that is there is tried first: it is fresh on most machines, and updating it takes longer.
  "${apt[@]}" >/dev/null 2>&1 || { "${as_root[@]}" apt-get -qq update && "${apt[@]}" >/dev/null; }
}

# One stamp a requirements file, named after its content.
install_python_packages() {
  local file stamp
  for file in "${requirements[@]}"; do
    stamp=".venv/.installed-$(sha256sum "$file" | cut -c1-16)"
    [ ! -e "$stamp" ] || continue
    [ -x .venv/bin/pip ] || python3 -m venv .venv
    echo "setup: installing $file into .venv"
    .venv/bin/pip --disable-pip-version-check --quiet install --require-hashes --no-deps --only-binary :all: -r "$file"
    [ "$file" != requirements/cuda.txt ] || link_cuda_names
    touch "$stamp"
  done
}

# The wheels of the toolkit keep its libraries in lib/; nvcc.profile looks for lib64/.
link_cuda_names() {
  local root
  for root in .venv/lib/python3*/site-packages/nvidia/cu13; do ln -sfn lib "$root/lib64"; done
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  install_debian_packages
else
  echo "setup: no apt-get here; these packages are needed by their Debian names: $want" >&2
fi
install_python_packages
