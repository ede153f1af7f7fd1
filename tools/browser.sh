#!/bin/sh
# browser.sh: check that Chromium is installed, for tests/browser. As root with apt-get, install it. Otherwise print in one line
# what is not tested. With CI=true the script fails then. Playwright is a package of the environment; it starts this Chromium.
set -eu
for program in chromium chromium-browser google-chrome; do
    if command -v "$program" >/dev/null 2>&1; then exit 0; fi
done
not_tested() {
    echo "NOT TESTED on this machine: the page of the map in a browser ($1)" >&2
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

[ "$(id -u)" = 0 ] || not_tested "Chromium is not installed, and installing it needs root"
command -v apt-get >/dev/null 2>&1 || not_tested "Chromium is not installed, and there is no apt-get"
echo "installing Chromium ..."
export DEBIAN_FRONTEND=noninteractive
options="-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
log=$(mktemp)
# shellcheck disable=SC2086
if { apt-get $options update && apt-get $options install --yes --no-install-recommends chromium fonts-dejavu-core; } >"$log" 2>&1; then
    rm -f "$log"
else
    cat "$log" >&2
    not_tested "Chromium could not be installed"
fi
