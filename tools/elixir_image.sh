#!/bin/sh
# Build the image of the Elixir node. Its name is ELIXIR_IMAGE (default: localhost/erlmesh-elixir:dev).
# The base is ELIXIR_BASE_IMAGE if it is set. Otherwise it is the official Debian image, if this engine has it or can pull it.
# Otherwise tools/base_image.sh builds a base from Debian packages.
set -eu
cd "$(dirname "$0")/.."
official=$(sed -n 's/^ARG BASE_IMAGE=//p' docker/elixir/Dockerfile)
base=${ELIXIR_BASE_IMAGE:-$(tools/base_image.sh --or "$official" elixir)}
tools/docker_build.sh --build-arg BASE_IMAGE="$base" --tag "${ELIXIR_IMAGE:-localhost/erlmesh-elixir:dev}" docker/elixir
