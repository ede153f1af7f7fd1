#!/bin/sh
# test.sh all PYTHON [ARGUMENT ...] runs all tests in parts. test.sh pythons PYTHON [ARGUMENT ...] runs only the unit tests on
# other Pythons. The further arguments are pytest's. Each part has its own number of parallel processes. A failing part does not
# stop the other parts. Each failed test runs once more, alone. If it passes then, it is listed at the end as flaky under
# load. A run without a single test is a failure.
set -u
which=$1 python=$2
shift 2
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
failed='' flaky='' ran='' pythons='' no_pythons='' measured=''

part() { # NAME PROCESSES PYTEST-ARGUMENT ...
    name=$1 processes=$2 cache=.pytest_cache/part-$2-$(echo "$1" | tr -dc '[:alnum:]')
    shift 2
    echo "--- $name"
    "$python" -m pytest -o cache_dir="$cache" -n "$processes" "$@"
    case $? in
        0) ran=yes && return ;;
        1) ran=yes ;;
        2) exit 2 ;; # Ctrl-C
        5) return ;; # the arguments selected no test of this part
        *) failed="$failed; $name" && return ;;
    esac
    echo "--- the failed tests of this part once more, alone: $name"
    if "$python" -m pytest -o cache_dir="$cache" --last-failed --last-failed-no-failures none "$@" --no-cov; then
        flaky="$flaky; $name"
    else
        failed="$failed; $name"
    fi
}

# Coverage is measured once, on the first Python from 3.12 on. There it costs seconds (sys.monitoring). On 3.11 it doubles the time.
coverage() {
    if [ -z "$measured" ] && "$python" -c 'import sys; sys.exit(not hasattr(sys, "monitoring"))'; then
        measured=yes
        COVERAGE_CORE=sysmon
        export COVERAGE_CORE
        options='--cov=erlmesh --cov-report=term:skip-covered'
    else
        options=--no-cov
    fi
}

on_other_pythons() { # PYTEST-ARGUMENT ...: the unit tests on each other Python that pyproject.toml lists and that is available
    own=$python own_version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    for version in $(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml); do
        [ "$version" != "$own_version" ] || continue
        "$own" tools/python_of.py "$version" >/dev/null
        case $? in
            0) ;;
            3) no_pythons="$no_pythons, $version" && continue ;; # not available on this machine
            *) failed="$failed; Python $version" && continue ;;
        esac
        make --no-print-directory ".venv-$version/unit.stamp" || { failed="$failed; Python $version" && continue; }
        python=.venv-$version/bin/python
        coverage
        # shellcheck disable=SC2086
        part "unit tests on Python $version" "$cores" $options tests/unit "$@"
        pythons="$pythons, $("$python" -c 'import platform; print(platform.python_version())')"
    done
    python=$own
}

verdict() {
    own=$("$python" -c 'import platform; print(platform.python_version())')
    [ -z "$pythons" ] || echo "tested on Python $own and on: ${pythons#, }"
    [ -z "$no_pythons" ] || echo "NOT TESTED on this machine: Python ${no_pythons#, } (see above)"
    [ -z "$flaky" ] || echo "FAILED AT FIRST, passed alone (see above): ${flaky#; }"
    [ -z "$failed" ] || { echo "failed: ${failed#; }" >&2; exit 1; }
    [ -n "$ran" ] || { echo "no test was run" >&2; exit 5; }
    exit 0
}

[ "$which" = all ] || { on_other_pythons "$@"; verdict; }
coverage
# shellcheck disable=SC2086
part "unit tests, simulation, documents, commands" "$cores" $options \
    --ignore tests/otp --ignore tests/faults --ignore tests/docker "$@"
on_other_pythons "$@"
part "real Erlang and Elixir: OTP 23, 25, 27 and 29" $((cores * 2)) tests/otp --every-otp "$@" # mostly waiting
part "real faults on real nodes" 0 tests/faults "$@"
part "containers" 0 tests/docker "$@"

verdict
