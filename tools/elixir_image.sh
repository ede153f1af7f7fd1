#!/bin/sh
# Builds the image of the Elixir node, ELIXIR_IMAGE (localhost/erlmesh-elixir:dev), on ELIXIR_BASE_IMAGE; without one on the
# official Debian, if this engine has it or can pull it; else on a base of Debian's packages made here.
set -eu
cd "$(dirname "$0")/.."
official=$(sed -n 's/^ARG BASE_IMAGE=//p' docker/elixir/Dockerfile)
base=${ELIXIR_BASE_IMAGE:-$(tools/base_image.sh --or "$official" elixir)}
tools/docker_build.sh --build-arg BASE_IMAGE="$base" --tag "${ELIXIR_IMAGE:-localhost/erlmesh-elixir:dev}" docker/elixir
