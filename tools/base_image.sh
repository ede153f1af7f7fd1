#!/bin/sh
# Print the name of a base image.
#
#   base_image.sh [python|elixir]                 Build the image from Debian packages on this machine, once. The packages come
#                                                 from the mirror that this machine's apt uses. For machines that cannot pull
#                                                 images. The image contains Python, or Erlang and Elixir.
#   base_image.sh --or OFFICIAL [python|elixir]   Print OFFICIAL if this engine has it or can pull it. Otherwise build as above.
set -eu
official=
[ "${1:-}" != --or ] || { official=$2; shift 2; }
case ${1:-python} in
    python) packages=python3 image=localhost/erlmesh-base ;;
    elixir) packages=elixir,erlang-base image=localhost/erlmesh-elixir-base ;;
    *) echo "usage: $0 [--or OFFICIAL] [python|elixir]" >&2; exit 2 ;;
esac

give_up() { echo "no base image: $1" >&2; exit 1; }
is_local() { [ -n "$(docker images --quiet "$1")" ]; }
print_and_exit() { echo "$1"; exit; }

docker info >/dev/null 2>&1 || give_up "no Docker Engine responds here. Is it running, and may $(id -un) use it?"
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
image=$image:${suite:-none}
if [ -n "$official" ]; then
    ! is_local "$official" || print_and_exit "$official"
    ! is_local "$image" || print_and_exit "$image"
    [ "${CI:-}" = true ] || ! timeout 300 docker pull --quiet "$official" >/dev/null 2>&1 || print_and_exit "$official"
fi
! is_local "$image" || print_and_exit "$image"
command -v apt-get >/dev/null 2>&1 || give_up "it is built from Debian packages, and this system has no apt-get. Set BASE_IMAGE to an image"
[ "$(id -u)" = 0 ] || give_up "building one needs root. As root, run: $0 ${1:-}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM # without this trap, dash does not run the EXIT trap after a signal
show_on_failure() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; give_up "'$1' failed"; }; }

if ! command -v mmdebstrap >/dev/null 2>&1; then
    show_on_failure apt-get -qq -o DPkg::Lock::Timeout=300 update
    show_on_failure env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends mmdebstrap
fi
mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" 'Component: main' | sort -u | head -n 1; }
[ -n "$(mirror)" ] || show_on_failure apt-get -qq -o DPkg::Lock::Timeout=300 update
echo "building $image from Debian packages ..." >&2
apt-config dump 2>/dev/null | grep -i '^Acquire::http' >"$work/apt.conf" || :
show_on_failure mmdebstrap --mode=root --variant=essential --include="$packages" --aptopt="$work/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname "$1"/etc/resolv.conf' \
    "$suite" "$work/base.tar" "$(mirror)"
docker import --change 'LABEL erlmesh=base' "$work/base.tar" "$image" >/dev/null
echo "$image"
