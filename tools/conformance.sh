#!/usr/bin/env bash
# The lab overlay on a cluster of its own: up, the foundation gates with every fault planted, down.
# The node needs root on Debian 12; elsewhere it gets both in a container, which needs Docker.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ] || ! grep -q '^VERSION_ID="12"' /etc/os-release; then
  command -v docker >/dev/null || { echo "conformance: needs root on Debian 12, or docker" >&2; exit 2; }
  mkdir -p "$HOME/.cache/rag-blueprint"
  exec docker run --rm --privileged --init --volume "$PWD:$PWD" --workdir "$PWD" --tmpfs /tmp:exec \
    --volume "$HOME/.cache/rag-blueprint:/root/.cache/rag-blueprint" docker.io/library/debian:12 \
    bash -c 'apt-get update -qq && apt-get install -qq -y git make python3-venv >/dev/null && make conformance'
fi
trap 'make -s down' EXIT
make -s up CLUSTER=--node
make -s gates GATES='--phase foundation --profile prove --keep-going --prove --report report'
