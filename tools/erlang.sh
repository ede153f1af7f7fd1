#!/bin/sh
# Provide Erlang and Elixir for the interop tests. As root with apt-get, install the system's packages if a program is missing.
# Then fetch OTP 23, 27 and 29 into .otp, separate from the installed OTP.
# Print in one line what is not tested because it is not available. With CI=true this is a failure.
packages="erlang-base erlang-dev erlang-crypto erlang-asn1 erlang-public-key erlang-ssl erlang-syntax-tools erlang-runtime-tools elixir"
# For the tests with a C node and a Java node.
foreign_packages="gcc libc6-dev erlang-dev erlang-jinterface default-jdk-headless"
here=$(dirname "$0")

missing() {
    for program in erl erlc epmd iex; do
        command -v "$program" >/dev/null 2>&1 || { echo "$program"; return; }
    done
    # For the tests with TLS. An Erlang that is not a Debian package has all applications.
    for application in crypto asn1 public_key ssl; do
        [ ! -d /usr/lib/erlang/lib ] || ls -d /usr/lib/erlang/lib/$application-* >/dev/null 2>&1 || { echo "$application"; return; }
    done
}

# What the tests with a C node and a Java node lack.
missing_for_foreign_nodes() {
    for file in /usr/bin/gcc /usr/bin/javac /usr/share/java/OtpErlang.jar /usr/lib/erlang/usr/include/ei.h; do
        [ -e "$file" ] || { echo "$file"; return; }
    done
}

not_tested() {
    echo "NOT TESTED on this machine: $1" >&2
    [ "${CI:-}" != true ] || exit 1
}

can_install() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    options="-qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3"
    log=$(mktemp)
    # shellcheck disable=SC2086
    { apt-get $options update && apt-get $options install --yes --no-install-recommends "$@"; } >"$log" 2>&1 || cat "$log" >&2
    rm -f "$log"
}

if [ -n "$(missing)" ] && can_install; then
    echo "installing Erlang and Elixir ..."
    # shellcheck disable=SC2086
    install $packages
fi
if [ -n "$(missing_for_foreign_nodes)" ] && can_install; then
    echo "installing what the C node and the Java node need ..."
    # shellcheck disable=SC2086
    install $foreign_packages
fi

if [ -n "$(missing)" ]; then
    not_tested "interop with Erlang and Elixir ($(missing) is missing; as root: apt-get install $packages)"
    exit 0
fi
[ -z "$(missing_for_foreign_nodes)" ] ||
    not_tested "interop with C nodes and Java nodes ($(missing_for_foreign_nodes) is missing; as root: apt-get install $foreign_packages)"
for version in 23 27 29; do
    python=$("$here/python.sh") || exit 1
    "$python" "$here/otp.py" "$version" >/dev/null || not_tested "interop with OTP $version (see above)"
done
