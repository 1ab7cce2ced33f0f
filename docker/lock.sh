#!/usr/bin/env bash
# Writes docker/requirements.lock anew; to be run when requirements.lock has changed, in an environment with its Python.
set -euo pipefail
cd "$(dirname "$0")/.."

report=$(mktemp)
trap 'rm -f "$report" docker/requirements.lock.unfinished' EXIT
python3 -m pip install --dry-run --ignore-installed --quiet --report "$report" \
    --requirement requirements.lock apache-airflow-providers-fab psycopg2-binary asyncpg

python3 - "$report" > docker/requirements.lock.unfinished <<'END'
import json
import sys

locked = open("requirements.lock").read().lower().splitlines()
print("# What the image needs besides requirements.lock: the FAB login, the PostgreSQL drivers, and what they need.")
print("# Made by docker/lock.sh.")
for item in sorted(json.load(open(sys.argv[1]))["install"], key=lambda item: item["metadata"]["name"].lower()):
    pin = "{name}=={version}".format(**item["metadata"])
    if pin.lower() not in locked:
        print(pin)
END
mv docker/requirements.lock.unfinished docker/requirements.lock
