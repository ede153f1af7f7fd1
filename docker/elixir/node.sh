#!/bin/sh
# Start iex as a node named HOST-NAME@ADDRESS, with the cookie from a file and with pg. NODE_HOST is another host for the name.
# TLS_OPTFILE is a file with options for -ssl_dist_optfile: the node then uses TLS.
set -eu
address=$(hostname -i)
umask 077
rm -f "$HOME/.erlang.cookie"
tr -d '\n' < "${COOKIE_FILE:-/run/secrets/cookie}" > "$HOME/.erlang.cookie"
chmod 400 "$HOME/.erlang.cookie"
tls=${TLS_OPTFILE:+-proto_dist inet_tls -ssl_dist_optfile $TLS_OPTFILE}
exec iex --name "$(hostname)@${NODE_HOST:-${address%% *}}" --erl "$tls -kernel start_pg true net_ticktime ${NET_TICKTIME:-60} inet_dist_listen_min 9100 inet_dist_listen_max 9105" "$@"
