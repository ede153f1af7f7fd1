#!/bin/sh
# The native part of erlmesh (native/), for the Makefile:
#
#   native.sh --can-build             exit status 0 if this machine has a cargo that can build it
#   native.sh --why-not               say why erlmesh runs in pure Python here
#   native.sh --build PYTHON          build its wheel in build/native; the tools go into the environment of PYTHON
#   native.sh --install PYTHON INTO   install that wheel into the environment of INTO, another PYTHON or the same
#   native.sh --sanitize PYTHON SECONDS   run the fuzzer with AddressSanitizer
#   native.sh --check                 check its format and lint it; only say so if there is no cargo
set -eu
cd "$(dirname "$0")/.."
minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' native/Cargo.toml)

version() { cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p'; }

can_build() {
    found=$(version)
    [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$minimum" "$found" | sort -V | head -n 1)" = "$minimum" ]
}

why_not() {
    found=$(version)
    case ${ERLMESH_PURE:-0} in
        0) if [ -n "$found" ]; then echo "pure Python: cargo $found is too old to build the native part, which needs $minimum"
           elif command -v cargo >/dev/null; then echo "pure Python: cargo does not run, so the native part is not built"
           else echo "pure Python: there is no cargo (Rust), so the native part is not built"; fi ;;
        *) echo "pure Python: ERLMESH_PURE=$ERLMESH_PURE is set" ;;
    esac
}

build() { # PYTHON
    echo "building the native part ..."
    "$1" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
    "$1" -m pip install --quiet --disable-pip-version-check --group native
    rm -rf build/native
    # --locked: the versions in Cargo.lock, and no others
    mkdir -p build
    if ! "$1" -m maturin build --release --locked --manifest-path native/Cargo.toml --out build/native >build/native.log 2>&1; then
        cat build/native.log >&2
        echo "the native part (native/) could not be built: see above. ERLMESH_PURE=1 make … runs without it" >&2
        exit 1
    fi
}

install() { # PYTHON INTO
    "$1" -m pip --python "$2" install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall build/native/*.whl
}

sanitize() { # PYTHON SECONDS
    # AddressSanitizer is not stable in Rust. Its runtime comes from gcc. PYTHONMALLOC makes it see Python's objects.
    runtime=$(gcc -print-file-name=libasan.so)
    [ -e "$runtime" ] || { echo "AddressSanitizer needs gcc and its libasan" >&2; exit 1; }
    target=$(rustc -vV | sed -n 's/^host: //p')
    RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address -Cdebug-assertions=on' cargo build --quiet --release --locked \
        --manifest-path native/Cargo.toml --target "$target" --target-dir native/target/asan \
        --config profile.release.lto=false --config profile.release.strip=false
    mkdir -p build/asan
    cp "native/target/asan/$target/release/liberlmesh_native.so" build/asan/erlmesh_native.so
    # The sanitizer keeps freed memory for a while, so the memory grows.
    LD_PRELOAD=$runtime ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=build/asan:src:tests \
        "$1" -m fuzz --seconds "$2" --memory-may-grow
}

case $1 in
    --can-build) can_build ;;
    --why-not) why_not ;;
    --build) build "$2" ;;
    --install) install "$2" "$3" ;;
    --sanitize) sanitize "$2" "$3" ;;
    --check)
        if can_build; then
            cargo fmt --manifest-path native/Cargo.toml --check
            cargo clippy --quiet --release --locked --manifest-path native/Cargo.toml -- -D warnings
        else
            why_not
        fi ;;
esac
