#!/bin/sh
# image.sh [PYTHON]: builds the image IMAGE (localhost/erlmesh:dev) and says how much it adds to its base. The base is
# BASE_IMAGE; else the official one, if this engine has it or can pull it; else one of Debian's packages.
set -eu
cd "$(dirname "$0")/.."
python=${1:-$(tools/python.sh)}
image=${IMAGE:-localhost/erlmesh:dev}
official=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)

docker info >/dev/null 2>&1 || { echo "no Docker Engine answers here (is it running, and may $(id -un) use it?)" >&2; exit 1; }
base=${BASE_IMAGE:-}
if [ -z "$base" ]; then
    if [ -n "$(docker images --quiet "$official")" ] || { [ "${CI:-}" != true ] && timeout 120 docker pull --quiet "$official" >/dev/null 2>&1; }; then
        base=$official
    else
        base=$(tools/base_image.sh)
    fi
fi

rm -rf build/wheelhouse
mkdir -p build/wheelhouse
"$python" -m pip wheel --quiet --disable-pip-version-check --wheel-dir build/wheelhouse '.[shell,dns]'
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest build/wheelhouse pip
builder=0
docker buildx version >/dev/null 2>&1 && builder=1
DOCKER_BUILDKIT=$builder docker build --quiet --build-arg BASE_IMAGE="$base" --label erlmesh=node --tag "$image" . >/dev/null
size() { docker image inspect --format '{{.Size}}' "$1"; }
echo "$image: $(($(size "$image") / 1000000)) MB, $((($(size "$image") - $(size "$base")) / 1000000)) MB of it on top of $base"
