#!/usr/bin/env bash
# Makes .venv from the locks: Python from the machine, everything else by hash. Idempotent and quick when up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf 'bootstrap: %s\n' "$*" >&2; exit 2; }

apt_install() { # needs root: elsewhere say what to install
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "please install: $*"
  say "installing with apt: $*"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

missing=()
command -v git >/dev/null || missing+=(git)
command -v python3 >/dev/null || missing+=(python3 python3-venv)
libraries=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p)
[[ $libraries == *libgomp.so.1* ]] || missing+=(libgomp1) # llama.cpp
[[ $libraries == *libstdc++.so.6* ]] || missing+=(libstdc++6)
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "needs Python 3.11 or newer, found $(python3 -V)"
python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv

stamp=.venv/.stamp
digest=$(cat requirements/uv.txt requirements/dev.txt images/*/pyproject.toml cli/pyproject.toml conformance/pyproject.toml "$0" \
  <(python3 -V) <(pwd) | sha256sum | cut -d' ' -f1)
if [ "$(cat "$stamp" 2>/dev/null)" != "$digest" ]; then
  say "making .venv (about 1.5 GB, one to three minutes)"
  # A .venv of another folder or Python does not work here: its programs name the old path.
  .venv/bin/pip --version >/dev/null 2>&1 || { rm -rf .venv; python3 -m venv .venv; }
  .venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
  .venv/bin/uv pip sync -q --python .venv/bin/python --require-hashes requirements/dev.txt requirements/uv.txt
  members=(); for d in images/*/ cli/ conformance/; do [ -f "$d/pyproject.toml" ] && members+=(-e "./$d"); done
  .venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation "${members[@]}"
  echo "$digest" > "$stamp"
fi
