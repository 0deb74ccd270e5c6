#!/bin/sh
# As the official image begins: as root, then as postgres; an empty directory becomes a database of POSTGRES_DB and POSTGRES_USER, on a
# server that only its own socket reaches meanwhile.
set -eu
if [ "$(id -u)" = 0 ]; then
  POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  export POSTGRES_PASSWORD
  install --directory --owner=postgres --group=postgres --mode=700 "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
unset POSTGRES_PASSWORD_FILE
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  rm /tmp/password
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  pg_ctl start --wait --options="-c listen_addresses= -c unix_socket_directories=/var/run/postgresql"
  createdb --host=/var/run/postgresql --username="$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl stop --wait --mode=fast
fi
unset POSTGRES_PASSWORD
exec "$@" -c 'listen_addresses=*' -c unix_socket_directories=/var/run/postgresql,/tmp
