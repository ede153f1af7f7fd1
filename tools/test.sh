#!/bin/sh
# test.sh all PYTHON [ARGUMENT ...] runs all tests in parts. test.sh pythons PYTHON [ARGUMENT ...] runs only the unit tests on
# other Pythons. The further arguments are pytest's. Each part has its own number of parallel processes. A failing part does not
# stop the other parts. Each failed test runs once more, alone. If it passes then, it is listed at the end as flaky under
# load. A run without a single test is a failure.
#
# Where the native part is built, all parts use it, except that the unit tests of one Python and the conformance tests run
# with ERLMESH_PURE=1. With ERLMESH_PURE=1 in the environment, all parts run in pure Python.
set -u
which=$1 python=$2
shift 2
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
failed='' flaky='' ran='' pythons='' no_pythons='' measured='' pure_tested=''

build_of() { "$1" -c 'from erlmesh import native; print("pure" if native.module is None else "native")'; }

version_of() { "$1" -c 'import platform; print(platform.python_version())'; }

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

pure_part() { # as part
    ERLMESH_PURE=1
    export ERLMESH_PURE
    part "$@"
    unset ERLMESH_PURE
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

# The unit tests on each other Python that pyproject.toml lists and that is available. One of them runs the pure build. The others
# leave out the tests that are marked as slow.
on_other_pythons() { # PYTEST-ARGUMENT ...
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
        build=$(build_of "$python")
        if [ "$build" = native ] && [ -z "$pure_tested" ]; then
            build=pure
            # shellcheck disable=SC2086
            pure_part "unit tests on Python $version, pure" "$cores" $options tests/unit "$@"
        else
            # shellcheck disable=SC2086
            part "unit tests on Python $version, $build" "$cores" $options -m 'not slow' tests/unit "$@"
        fi
        [ "$build" = native ] || pure_tested=yes
        pythons="$pythons, $(version_of "$python") ($build)"
    done
    python=$own
}

verdict() {
    if [ "$which" = all ]; then echo "tested on Python $(version_of "$python") ($own_build)${pythons:+ and on: ${pythons#, }}"
    else echo "tested on: ${pythons#, }"; fi
    [ "$own_build" = native ] || echo "NOT TESTED: the native build. $(tools/native.sh --why-not)"
    [ -z "$no_pythons" ] || echo "NOT TESTED on this machine: Python ${no_pythons#, } (see above)"
    [ -z "$flaky" ] || echo "FAILED AT FIRST, passed alone (see above): ${flaky#; }"
    [ -z "$failed" ] || { echo "failed: ${failed#; }" >&2; exit 1; }
    [ -n "$ran" ] || { echo "no test was run" >&2; exit 5; }
    exit 0
}

own_build=$(build_of "$python")
if [ "$own_build" = pure ]; then
    pure_tested=yes
    [ "${ERLMESH_PURE:-0}" != 0 ] || ! tools/native.sh --can-build || failed="; the native part is built, but not used"
fi
[ "$which" = all ] || { on_other_pythons "$@"; verdict; }
coverage
# shellcheck disable=SC2086
part "unit tests, simulation, documents, commands" "$cores" $options \
    --ignore tests/otp --ignore tests/faults --ignore tests/docker --ignore tests/soak --ignore tests/browser "$@"
on_other_pythons "$@"
if [ -z "$pure_tested" ]; then # there is no other Python
    pure_part "unit tests, pure" "$cores" --no-cov tests/unit "$@"
    pythons="$pythons, $(version_of "$python") (pure)"
fi
part "real Erlang and Elixir: OTP 23, 25, 27 and 29" $((cores * 2 + 1)) tests/otp --every-otp "$@" # mostly waiting
[ "$own_build" = pure ] || pure_part "conformance with real Erlang, pure" $((cores * 2)) tests/otp/test_conformance*_otp.py "$@"
part "real faults on real nodes" 0 tests/faults "$@"
part "soak" 0 tests/soak "$@"
part "containers" 0 tests/docker "$@"
part "the page of the map in Chromium" "$cores" tests/browser "$@"

verdict
