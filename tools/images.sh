#!/usr/bin/env bash
# Our images: `build`, `scan` (and their SBOMs), `publish` (push, sign keyless, attest). `make images` and
# its sisters run it. Needs docker, for scan trivy, for publish cosign.
#   IMAGES   registry and owner (ghcr.io/rag-blueprint); VERSION: the tag (0.1.0); FINDINGS: where reports go
set -euo pipefail
cd "$(dirname "$0")/.."
IMAGES=${IMAGES:-ghcr.io/rag-blueprint} VERSION=${VERSION:-0.1.0} FINDINGS=${FINDINGS:-report/images}
mapfile -t targets < <(sed -n 's/^FROM runtime AS //p' images/Dockerfile)
needs() { command -v "$1" >/dev/null || { echo "images: $1 is not installed" >&2; exit 2; }; }

build() {
  needs docker
  for target in "${targets[@]}"; do
    docker build -f images/Dockerfile --target "$target" -t "$IMAGES/$target:$VERSION" .
  done
}

# A critical finding that has a fix ends it; without its database trivy ends it too.
scan() {
  needs trivy
  mkdir -p "$FINDINGS"
  for target in "${targets[@]}"; do
    trivy image --quiet --format cyclonedx --output "$FINDINGS/$target.cdx.json" "$IMAGES/$target:$VERSION"
    trivy image --quiet --scanners vuln,secret --severity CRITICAL --ignore-unfixed --exit-code 1 \
      --ignorefile .trivyignore.yaml "$IMAGES/$target:$VERSION"
  done
}

publish() {
  needs docker
  needs cosign
  for target in "${targets[@]}"; do
    docker push --quiet "$IMAGES/$target:$VERSION"
    digest=$(docker image inspect --format '{{index .RepoDigests 0}}' "$IMAGES/$target:$VERSION")
    cosign sign --yes "$digest"
    cosign attest --yes --type cyclonedx --predicate "$FINDINGS/$target.cdx.json" "$digest"
    echo "$digest"
  done
}

case "${1:-}" in
  build | scan | publish) "$1" ;;
  *) echo "usage: $0 build|scan|publish" >&2; exit 2 ;;
esac
