# Makes the database when there is none, whole or not at all, and becomes its server.
set -eu
umask 077
data=/var/lib/postgres/data
programs=$(echo /usr/lib/postgresql/*/bin)
if [ ! -d "$data" ]; then
    rm -rf "$data.new"
    "$programs/initdb" --pgdata "$data.new" --username ground --pwfile /etc/postgres/database-password \
        --auth scram-sha-256 --encoding UTF8 --locale C.UTF-8 --no-instructions
    echo 'host all all all scram-sha-256' >> "$data.new/pg_hba.conf"
    echo 'CREATE DATABASE ground' | "$programs/postgres" --single -D "$data.new" postgres
    mv "$data.new" "$data"
fi
exec "$programs/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c password_encryption=scram-sha-256
