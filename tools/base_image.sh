#!/bin/sh
# Prints the name of an image to build on, for machines that can pull none: made once, from Debian's packages, with the
# mirror that this machine's apt is set to. `base_image.sh` has Python, `base_image.sh elixir` Erlang and Elixir.
set -eu
case ${1:-python} in
    python) packages=python3 image=localhost/erlmesh-base ;;
    elixir) packages=elixir,erlang-base image=localhost/erlmesh-elixir-base ;;
    *) echo "usage: $0 [python|elixir]" >&2; exit 2 ;;
esac

give_up() { echo "no base image: $1" >&2; exit 1; }

command -v docker >/dev/null 2>&1 || give_up "there is no docker here"
command -v apt-get >/dev/null 2>&1 || give_up "it is made from Debian's packages, and this is no Debian; name one with BASE_IMAGE"
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
image=$image:$suite
if [ -n "$(docker images --quiet "$image")" ]; then
    echo "$image"
    exit
fi
[ "$(id -u)" = 0 ] || give_up "making one takes root; as root: $0 ${1:-}"

log=$(mktemp)
work=$(mktemp -d)
trap 'rm -rf "$log" "$work"' EXIT
loudly() { "$@" >"$log" 2>&1 || { cat "$log" >&2; give_up "'$1' failed"; }; }

if ! command -v mmdebstrap >/dev/null 2>&1; then
    loudly apt-get -qq update
    loudly env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends mmdebstrap
fi
mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 'Component: main' | sort -u | head -n 1; }
[ -n "$(mirror)" ] || loudly apt-get -qq update
echo "making $image from Debian's packages ..." >&2
apt-config dump 2>/dev/null | grep -i '^Acquire::http' >"$work/apt.conf" || :
loudly mmdebstrap --mode=root --variant=essential --include="$packages" --aptopt="$work/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname "$1"/etc/resolv.conf' \
    "$suite" "$work/base.tar" "$(mirror)"
docker import --change 'LABEL erlmesh=base' "$work/base.tar" "$image" >/dev/null
echo "$image"
