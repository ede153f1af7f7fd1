#!/bin/sh
# Provide promtool for tests/deploy in build/promtool, from Debian's package prometheus. Nothing is installed or started.
set -eu
cd "$(dirname "$0")/.."
target=build/promtool

if command -v promtool >/dev/null 2>&1 || [ -x "$target" ] || ! command -v apt-get >/dev/null 2>&1; then
    exit 0 # the tests report what is missing
fi
echo "fetching promtool for tests/deploy ..."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
log=$folder/log
fetch() {
    { [ "$(id -u)" != 0 ] || apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 update; } &&
        (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download prometheus) &&
        dpkg-deb -x "$folder"/prometheus_*.deb "$folder/root"
}
if fetch >"$log" 2>&1; then
    mkdir -p build
    cp "$folder/root/usr/bin/promtool" "$target"
else
    cat "$log" >&2
fi
