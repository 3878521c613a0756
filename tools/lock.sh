#!/usr/bin/env bash
# Writes every lock in requirements/ with hashes and without download addresses. `make lock` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
members=(common assets store ingestion embedding retrieval llm guard audit)
hide=(--no-emit-package ragctl --no-emit-package rag-conformance)
for m in "${members[@]}"; do hide+=(--no-emit-package "rag-$m"); done
python=3.11
compile() { # OUTPUT then the inputs and options of uv pip compile
  local out=requirements/$1.txt; shift
  echo "lock: $out"
  "$uv" pip compile -q --universal --python-version "$python" --generate-hashes --no-emit-index-url \
    --no-emit-find-links --custom-compile-command "make lock" "${hide[@]}" "$@" -o "$out"
}
compile uv requirements/uv.in
compile dev --extra training images/*/pyproject.toml cli/pyproject.toml conformance/pyproject.toml requirements/dev.in
for image in ingestion embedding retrieval llm guard audit; do
  compile "$image" "images/$image/pyproject.toml" -c requirements/dev.txt
done
compile build requirements/build.in -c requirements/dev.txt
compile conformance conformance/pyproject.toml -c requirements/dev.txt
compile milvus --extra milvus images/store/pyproject.toml -c requirements/dev.txt
# Apart from the rest, with lower bounds: resolved together they fall back to versions years old.
compile flagembedding --extra flagembedding images/embedding/pyproject.toml
compile checkov requirements/checkov.in
compile sbom requirements/sbom.in
compile langchain requirements/langchain.in
compile workflows requirements/workflows.in
python=3.12 compile vllm --extra vllm images/llm/pyproject.toml
