#!/bin/sh
# image.sh [PYTHON]: build the image IMAGE (default: localhost/erlmesh:dev) and print its size and what it adds to its base.
# The base is BASE_IMAGE if it is set. Otherwise it is the official Python image, if this engine has it or can pull it.
# Otherwise tools/base_image.sh builds a base from Debian packages.
set -eu
cd "$(dirname "$0")/.."
python=${1:-${PYTHON:-$(tools/python.sh)}}
image=${IMAGE:-localhost/erlmesh:dev}
base=${BASE_IMAGE:-$(tools/base_image.sh --or "$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)")}

rm -rf docker/wheelhouse
mkdir -p docker/wheelhouse
"$python" -m pip wheel --quiet --disable-pip-version-check --wheel-dir docker/wheelhouse '.[shell,dns,web]'
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest docker/wheelhouse pip
tools/docker_build.sh --build-arg BASE_IMAGE="$base" --tag "$image" .
docker image prune --force --filter label=erlmesh --filter until=24h >/dev/null 2>&1 || :
size() { docker image inspect --format '{{.Size}}' "$1"; }
echo "$image: $(($(size "$image") / 1000000)) MB, $((($(size "$image") - $(size "$base")) / 1000000)) MB of it on top of $base"
