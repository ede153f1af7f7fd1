#!/bin/sh
# cookie.sh [FILE]: write a new random cookie for compose.yaml, unless the file exists. The user in the container is not the
# user on the host, and a mounted file keeps its owner and mode. So every user may read the file (0444), but only the owner
# may enter its folder (0700).
set -eu
file=${1:-docker/secret/cookie}
[ ! -e "$file" ] || exit 0
mkdir -p -m 700 "$(dirname "$file")"
head -c 24 /dev/urandom | base64 | tr -d '/+=\n' > "$file"
chmod 444 "$file"
echo "wrote a new cookie to $file"
