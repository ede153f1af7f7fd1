#!/bin/sh
# certs.sh [PYTHON [FOLDER]]: make a CA and the certificates for compose.tls.yaml, unless the folder has them. As with the cookie,
# every user may read the keys of the nodes (0444), but only the owner may enter the folder around them (0700).
set -eu
python=${1:-python3}
folder=${2:-docker/secret/certs}
[ ! -e "$folder/ca.crt" ] || exit 0
mkdir -p -m 700 "$(dirname "$folder")"
"$python" -m erlmesh certs --dir "$folder" --mounted-at /run/tls \
    socrates@socrates.agora plato@plato.agora aristotle@aristotle.agora diotima@diotima.agora >/dev/null
chmod 444 "$folder"/*/tls.key
echo "wrote a CA and certificates to $folder"
