#!/bin/sh
# Provide Erlang and Elixir for the interop tests. As root with apt-get, install the system's packages if a program is missing.
# Then fetch OTP 23, 27 and 29 into .otp, separate from the installed OTP.
# Print in one line what is not tested because it is not available. With CI=true this is a failure.
packages="erlang-base erlang-dev erlang-crypto erlang-syntax-tools erlang-runtime-tools elixir"
here=$(dirname "$0")

missing() {
    for program in erl erlc epmd iex; do
        command -v "$program" >/dev/null 2>&1 || { echo "$program"; return; }
    done
}

not_tested() {
    echo "NOT TESTED on this machine: $1" >&2
    [ "${CI:-}" != true ] || exit 1
}

if [ -n "$(missing)" ] && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing Erlang and Elixir ..."
    export DEBIAN_FRONTEND=noninteractive
    options="-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
    log=$(mktemp)
    # shellcheck disable=SC2086
    { apt-get $options update && apt-get $options install --yes --no-install-recommends $packages; } >"$log" 2>&1 || cat "$log" >&2
    rm -f "$log"
fi

if [ -n "$(missing)" ]; then
    not_tested "interop with Erlang and Elixir ($(missing) is missing; as root: apt-get install $packages)"
    exit 0
fi
for version in 23 27 29; do
    python=$("$here/python.sh") || exit 1
    "$python" "$here/otp.py" "$version" >/dev/null || not_tested "interop with OTP $version (see above)"
done
