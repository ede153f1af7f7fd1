#!/bin/sh
# Provide what tests/faults needs: ip, nsenter, prlimit and libfaketime. As root with apt-get, install what is missing.
set -eu
packages="iproute2 util-linux libfaketime"

is_complete() {
    for program in ip nsenter prlimit; do
        command -v "$program" >/dev/null 2>&1 || return 1
    done
    ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1
}

if is_complete || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    exit 0 # the tests report what is missing
fi
echo "installing the packages for tests/faults ..."
export DEBIAN_FRONTEND=noninteractive
options="-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
log=$(mktemp)
# shellcheck disable=SC2086
{ apt-get $options update && apt-get $options install --yes --no-install-recommends $packages; } >"$log" 2>&1 || cat "$log" >&2
rm -f "$log"
