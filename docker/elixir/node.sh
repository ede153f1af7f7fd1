#!/bin/sh
# Start iex as a node named HOST-NAME@ADDRESS, with the cookie from a file and with pg.
set -eu
address=$(hostname -i)
umask 077
rm -f "$HOME/.erlang.cookie"
tr -d '\n' < "${COOKIE_FILE:-/run/secrets/cookie}" > "$HOME/.erlang.cookie"
chmod 400 "$HOME/.erlang.cookie"
exec iex --name "$(hostname)@${address%% *}" --erl "-kernel start_pg true net_ticktime ${NET_TICKTIME:-60} inet_dist_listen_min 9100 inet_dist_listen_max 9105" "$@"
