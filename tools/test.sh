#!/bin/sh
# test.sh PYTHON [ARGUMENT ...]: all tests, in four parts, each with as many at a time as it bears; further arguments are
# pytest's. A part that fails does not keep the others from running. What has failed beside others is run once more, alone:
# then it either fails for good, or is named at the end as what does not bear a busy machine. No test run at all is a failure.
set -u
python=$1
shift
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
failed='' not_beside_others='' ran=

part() { # NAME HOW-MANY-AT-A-TIME PYTEST-ARGUMENT ...
    name=$1 at_a_time=$2 cache=.pytest_cache/part-$2-$(echo "$1" | tr -dc '[:alnum:]')
    shift 2
    echo "--- $name"
    "$python" -m pytest -o cache_dir="$cache" -n "$at_a_time" "$@"
    case $? in
        0) ran=yes && return ;;
        1) ran=yes ;;
        2) exit 2 ;; # Ctrl-C
        5) return ;; # the arguments chose none of these
        *) failed="$failed; $name" && return ;;
    esac
    echo "--- once more, alone: what has failed of $name"
    if "$python" -m pytest -o cache_dir="$cache" --last-failed --last-failed-no-failures none "$@" --no-cov; then
        not_beside_others="$not_beside_others; $name"
    else
        failed="$failed; $name"
    fi
}

# Python 3.12 and newer measure coverage in some seconds more. On 3.11 it doubles the time, so nothing is measured there.
coverage=--no-cov
if "$python" -c 'import sys; sys.exit(not hasattr(sys, "monitoring"))'; then
    export COVERAGE_CORE=sysmon
    coverage='--cov=erlmesh --cov-report=term:skip-covered'
else
    echo "NOT MEASURED: coverage, which needs Python 3.12 or newer here; make coverage measures the unit tests on any Python"
fi

# shellcheck disable=SC2086
part "values, bytes, tables, simulated clusters, commands" "$cores" $coverage \
    --ignore tests/otp --ignore tests/faults --ignore tests/docker "$@"
part "with real Erlang and Elixir: OTP 23, 25 and 27" $((cores * 2)) tests/otp --every-otp "$@" # they mostly wait
part "real faults on real nodes" 0 tests/faults "$@"
part "in containers" 0 tests/docker "$@"

[ -z "$not_beside_others" ] || echo "FAILED AT FIRST, and not alone (see above): ${not_beside_others#; }"
[ -z "$failed" ] || { echo "failed: ${failed#; }" >&2; exit 1; }
[ -n "$ran" ] || { echo "no test was run" >&2; exit 5; }
