#!/bin/sh
# test.sh PYTHON [ARGUMENT ...]: all tests, in four parts, each with as many at a time as it bears; further arguments are
# pytest's. A part that fails does not keep the others from running. Only where nothing was run at all is that a failure too.
set -u
python=$1
shift
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
failed='' ran=

part() { # NAME PYTEST-ARGUMENT ...
    name=$1
    shift
    echo "--- $name"
    "$python" -m pytest "$@"
    case $? in
        0) ran=yes ;;
        5) ;; # the arguments chose none of these
        2) exit 2 ;; # Ctrl-C
        *) failed="$failed, $name" ;;
    esac
}

part "values, bytes, tables, simulated clusters, commands" --ignore tests/otp --ignore tests/faults --ignore tests/docker \
    -n "$cores" --dist loadgroup "$@"
part "with real Erlang and Elixir: OTP 23, 25 and 27" tests/otp --every-otp -n $((cores * 2)) --dist loadgroup "$@" # they mostly wait
part "real faults on real nodes" tests/faults "$@"
part "in containers" tests/docker "$@"

[ -z "$failed" ] || { echo "failed: ${failed#, }" >&2; exit 1; }
[ -n "$ran" ] || { echo "no test was run" >&2; exit 5; }
