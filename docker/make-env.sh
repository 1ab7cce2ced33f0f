#!/bin/sh
# Writes .env beside docker-compose.yml: a fresh random secret for each variable that docker/.env.example leaves blank.
# Only the owner can read it; one that exists is left alone.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../.env}

if [ -e "$target" ]; then
    echo "make-env: $target exists; delete it first if you want new secrets (the database keeps its old password)" >&2
    exit 1
fi

random_hex() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }
fernet_key() { head -c 32 /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_'; } # 32 bytes, URL-safe base64

umask 077
unfinished=$target.unfinished
trap 'rm -f "$unfinished"' EXIT
while IFS= read -r line; do
    case $line in
        AIRFLOW_FERNET_KEY=) printf '%s%s\n' "$line" "$(fernet_key)" ;;
        AIRFLOW_JWT_SECRET=) printf '%s%s\n' "$line" "$(random_hex 64)" ;; # SHA-512 wants a key of its own length
        AIRFLOW_ADMIN_PASSWORD=) printf '%s%s\n' "$line" "$(random_hex 12)" ;;
        [A-Z]*=) printf '%s%s\n' "$line" "$(random_hex 32)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done <"$here/.env.example" >"$unfinished"
mv "$unfinished" "$target"
echo "make-env: wrote $target; log in as admin with the AIRFLOW_ADMIN_PASSWORD in it"
