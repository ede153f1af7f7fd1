#!/bin/sh
# engine.sh: check that a Docker Engine responds, for the tests with containers. If none does, print in one line what is not
# tested. With CI=true, install and start an engine if none responds. This needs root; without root the script fails.
set -eu
responds() { docker info >/dev/null 2>&1; }
not_tested() { echo "NOT TESTED on this machine: nodes in containers ($1)" >&2; }

if responds; then exit 0; fi
if [ "${CI:-}" != true ]; then
    not_tested "no Docker Engine responds. Is it running, and may $(id -un) use it?"
    exit 0
fi
[ "$(id -u)" = 0 ] || { not_tested "no Docker Engine responds, and starting one needs root"; exit 1; }

log=$(mktemp)
if ! command -v dockerd >/dev/null 2>&1 || ! command -v docker-compose >/dev/null 2>&1; then
    echo "installing Docker Engine and compose ..."
    export DEBIAN_FRONTEND=noninteractive
    options="-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
    # shellcheck disable=SC2086
    { apt-get $options update && apt-get $options install --yes --no-install-recommends docker.io docker-compose; } \
        >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
responds || {
    echo "starting Docker Engine ..."
    setsid dockerd >"$log" 2>&1 </dev/null &
    waited=0
    until responds; do
        [ "$waited" -lt 60 ] || { tail -n 20 "$log" >&2; not_tested "the Docker Engine did not start"; exit 1; }
        sleep 1
        waited=$((waited + 1))
    done
}
