#!/bin/sh
# Starts PostgreSQL in the foreground, on the first start with CGrateS's empty tables in it.
# start.sh POSTGRES STATE_DIR RUN_DIR CONF_DIR SQL_DIR ADDRESS PORT
set -eu
bin=$(dirname "$(readlink -f "$1")")
data=$2/data run=$3 conf=$4 sql=$5 address=$6 port=$7
export LC_ALL=C TZ=UTC PGTZ=UTC

if [ ! -e "$data/READY" ]; then
    rm -rf "$data"
    "$bin/initdb" -D "$data" -U postgres -E UTF8 --locale=C -A trust --no-sync --no-instructions --wal-segsize=1 > /dev/null
    # A server of its own to put the tables in: reached through a socket in the node's own folder alone.
    "$bin/pg_ctl" -D "$data" -w -s -o "-c listen_addresses='' -k '$run' -p $port -c fsync=off" start > /dev/null
    fill() { "$bin/psql" -h "$run" -p "$port" -v ON_ERROR_STOP=1 -X -q -U "$@"; }
    fill postgres -d postgres -f "$conf/roles.sql"
    fill cgrates -d cgrates -f "$sql/create_cdrs_tables.sql" -f "$sql/create_tariffplan_tables.sql" \
        -f "$conf/versions.sql" 2> /dev/null > /dev/null
    "$bin/pg_ctl" -D "$data" -w -s -m fast stop
    touch "$data/READY"
fi

# SIGINT ends PostgreSQL at once and in order; at SIGTERM it would wait until every client has left.
"$bin/postgres" -D "$data" -k "$run" -p "$port" -c "listen_addresses=$address" -c "hba_file=$conf/pg_hba.conf" \
    -c "config_file=$conf/postgresql.conf" &
child=$!
trap 'kill -INT $child' TERM INT
code=0
wait $child || code=$?
# The signal has ended that wait, not the program: this one waits for its end.
[ $code -le 128 ] || { code=0; wait $child || code=$?; }
exit $code
