#!/bin/bash
# Makes the cluster on the first start as the official entry point does, then runs what it is told.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  eval "initdb -D '$PGDATA' --username='$POSTGRES_USER' --pwfile='$POSTGRES_PASSWORD_FILE' $POSTGRES_INITDB_ARGS"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses= -c unix_socket_directories=/tmp" start
  PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") psql -h /tmp -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $POSTGRES_DB"
  pg_ctl -D "$PGDATA" -w stop
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
