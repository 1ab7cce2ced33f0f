#!/usr/bin/env bash
# Brings the metadata database up to this image's schema, then makes sure that the administrator of .env can log in
# with the password of .env. May run any number of times.
set -euo pipefail

: "${ADMIN_USER:?}" "${ADMIN_PASSWORD:?}"

airflow db migrate

# Both commands ask for the password twice, and read it from standard input where there is no terminal:
# as an argument it would stand in the process list.
type_password() { printf '%s\n%s\n' "$ADMIN_PASSWORD" "$ADMIN_PASSWORD"; }

type_password | airflow users create --username "$ADMIN_USER" --role Admin \
    --firstname Airflow --lastname Administrator --email "$ADMIN_USER@localhost"
# `create` leaves an account that exists as it is: a password changed in .env is set here.
type_password | airflow users reset-password --username "$ADMIN_USER"
