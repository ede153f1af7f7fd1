#!/bin/sh
# install.sh SOURCE FOLDER: create an environment in FOLDER with erlmesh, its prompt, DNS and the map only: no pip, no compiler.
# If SOURCE contains wheels, install from them without a network; pip then runs from its own wheel. Otherwise the base's pip
# installs from SOURCE.
set -eu
python3 -m venv --without-pip "$2"
set -- "$1" "$2" "$1"/pip-*.whl
if [ -e "$3" ]; then
    python3 "$3/pip" --python "$2/bin/python" install --quiet --no-index --find-links="$1" --no-compile 'erlmesh[shell,dns,web]'
else
    python3 -m pip --python "$2/bin/python" install --quiet --disable-pip-version-check --no-cache-dir --no-compile "$1[shell,dns,web]"
fi
"$2/bin/python" -m compileall -q "$2/lib"
