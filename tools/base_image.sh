#!/bin/sh
# Prints the name of an image to build on.
#
#   base_image.sh [python|elixir]                 one made here of Debian's packages, once, with the mirror of this machine's
#                                                 apt: for machines that can pull none. It has Python, or Erlang and Elixir.
#   base_image.sh --or OFFICIAL [python|elixir]   OFFICIAL, if this engine has it or can pull it; else the same
set -eu
official=
[ "${1:-}" != --or ] || { official=$2; shift 2; }
case ${1:-python} in
    python) packages=python3 image=localhost/erlmesh-base ;;
    elixir) packages=elixir,erlang-base image=localhost/erlmesh-elixir-base ;;
    *) echo "usage: $0 [--or OFFICIAL] [python|elixir]" >&2; exit 2 ;;
esac

give_up() { echo "no base image: $1" >&2; exit 1; }
is_here() { [ -n "$(docker images --quiet "$1")" ]; }
take() { echo "$1"; exit; }

docker info >/dev/null 2>&1 || give_up "no Docker Engine answers here (is it running, and may $(id -un) use it?)"
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
image=$image:${suite:-none}
if [ -n "$official" ]; then
    ! is_here "$official" || take "$official"
    ! is_here "$image" || take "$image"
    [ "${CI:-}" = true ] || ! timeout 300 docker pull --quiet "$official" >/dev/null 2>&1 || take "$official"
fi
! is_here "$image" || take "$image"
command -v apt-get >/dev/null 2>&1 || give_up "it is made of Debian's packages, and this is no Debian; name one with BASE_IMAGE"
[ "$(id -u)" = 0 ] || give_up "making one takes root; as root: $0 ${1:-}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM # dash leaves out the other one else
loudly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; give_up "'$1' failed"; }; }

if ! command -v mmdebstrap >/dev/null 2>&1; then
    loudly apt-get -qq -o DPkg::Lock::Timeout=300 update
    loudly env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends mmdebstrap
fi
mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 'Component: main' | sort -u | head -n 1; }
[ -n "$(mirror)" ] || loudly apt-get -qq -o DPkg::Lock::Timeout=300 update
echo "making $image of Debian's packages ..." >&2
apt-config dump 2>/dev/null | grep -i '^Acquire::http' >"$work/apt.conf" || :
loudly mmdebstrap --mode=root --variant=essential --include="$packages" --aptopt="$work/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname "$1"/etc/resolv.conf' \
    "$suite" "$work/base.tar" "$(mirror)"
docker import --change 'LABEL erlmesh=base' "$work/base.tar" "$image" >/dev/null
echo "$image"
