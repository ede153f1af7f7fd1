#!/bin/sh
# Print the path of a Python that can create the project's environment: 3.11 or newer, with venv and ensurepip. If there is
# none, print what to install and exit with status 1.
old=
for python in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
    command -v "$python" >/dev/null 2>&1 || continue
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        continue
    elif "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        command -v "$python"
        exit
    fi
    old=$python
done
if [ -n "$old" ]; then
    echo "$old lacks the module venv or ensurepip. Install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2
else
    echo "erlmesh needs Python 3.11 or newer, and none is on the PATH. Set PYTHON=/path/to/python if there is one elsewhere" >&2
fi
exit 1
