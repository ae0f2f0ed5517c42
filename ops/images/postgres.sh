#!/bin/bash
# PostgreSQL on the volume; a new volume gets POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB and the
# SQL files of /docker-entrypoint-initdb.d, as in the official image.
set -euo pipefail
data=/var/lib/postgresql/data

if [ ! -s "$data/PG_VERSION" ]; then
  initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile <(printf '%s' "$POSTGRES_PASSWORD") \
    --auth-local trust --auth-host scram-sha-256 --encoding UTF8
  echo 'host all all all scram-sha-256' >> "$data/pg_hba.conf"
  # No TCP until it is complete: nobody takes it for ready.
  pg_ctl --pgdata "$data" --wait --options "-c listen_addresses=''" start
  createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ ! -f "$file" ] || psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -v ON_ERROR_STOP=1 --file "$file"
  done
  pg_ctl --pgdata "$data" --wait stop
fi
exec postgres -D "$data" -c 'listen_addresses=*'
