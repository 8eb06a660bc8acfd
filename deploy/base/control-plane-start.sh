# A home of this pod's own for sockets and the agent, with what all control planes share: see docs/deploy.md.
set -eu
umask 077
shared=/var/lib/groundplane/shared
mkdir -p "$GROUND_HOME"
for folder in blobs snapshots uploads logs images backends keys checkpoints; do
    mkdir -p "$shared/$folder"
    ln -sfn "$shared/$folder" "$GROUND_HOME/$folder"
done
mkdir -p "$shared/work/$HOSTNAME" # beside the blobs, which outputs are renamed to
ln -sfn "$shared/work/$HOSTNAME" "$GROUND_HOME/work"
cp -f /etc/groundplane/key "$GROUND_HOME/key"
printf '*:*:*:*:%s\n' "$(cat /etc/groundplane/database-password)" > "$PGPASSFILE"
exec ground up --foreground --host 0.0.0.0 --port 7433 --token-file /etc/groundplane/token --database "$DATABASE"
