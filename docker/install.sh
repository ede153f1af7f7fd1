#!/bin/sh
# install.sh SOURCE FOLDER: an environment in FOLDER with nothing but erlmesh and its prompt: no pip, no compiler. From the
# wheels in SOURCE, with no network, if there are any (pip itself runs out of its own); else from SOURCE by the base's pip.
set -eu
python3 -m venv --without-pip "$2"
set -- "$1" "$2" "$1"/pip-*.whl
if [ -e "$3" ]; then
    python3 "$3/pip" --python "$2/bin/python" install --quiet --no-index --find-links="$1" --no-compile 'erlmesh[shell,dns]'
else
    python3 -m pip --python "$2/bin/python" install --quiet --disable-pip-version-check --no-cache-dir --no-compile "$1[shell,dns]"
fi
"$2/bin/python" -m compileall -q "$2/lib"
