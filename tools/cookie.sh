#!/bin/sh
# cookie.sh [FILE]: a new secret for compose, if there is none. A container's user is another than you, and a mounted file
# keeps its owner and mode: so the file can be read by all, and its folder be entered by you alone.
set -eu
file=${1:-docker/secret/cookie}
[ ! -e "$file" ] || exit 0
mkdir -p -m 700 "$(dirname "$file")"
head -c 24 /dev/urandom | base64 | tr -d '/+=\n' > "$file"
chmod 444 "$file"
echo "a new cookie is in $file"
