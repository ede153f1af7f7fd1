#!/bin/sh
# `docker build`, with BuildKit where this docker has it; quiet unless it fails.
set -eu
builder=0
docker buildx version >/dev/null 2>&1 && builder=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM # dash leaves out the other one else
DOCKER_BUILDKIT=$builder docker build --force-rm "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
