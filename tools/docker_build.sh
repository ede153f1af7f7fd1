#!/bin/sh
# Run `docker build`, with BuildKit if this docker has it. Print the output only if the build fails.
set -eu
builder=0
docker buildx version >/dev/null 2>&1 && builder=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM # without this trap, dash does not run the EXIT trap after a signal
DOCKER_BUILDKIT=$builder docker build --force-rm "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
