"""Secrets of Airflow, which must not reach a run's files, a command line or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gdmix_core.config.secret_settings import has_user_info, holds_secret
from gdmix_core.config.secret_templates import dotted, texts
from gdmix_core.config.yaml_text import texts_in
from gdmix_core.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

# The extras of a Spark connection that are not secrets: they are shown on the command line of spark-submit.
_SHOWN_EXTRAS = frozenset(
    {"queue", "deploy-mode", "spark-binary", "namespace", "principal", "rest-scheme", "rest-port", "spark-home"}
)


def names_secret(variable: str) -> bool:
    """Return whether the name of a Variable says that it is a secret: by Airflow's own words for that, or by ours."""
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    return bool(should_hide_value_for_key(variable)) or holds_secret(variable, "some value")


def refuse_masked(content: Any, rendered: Any, where: str) -> None:
    """Raise ConfigError for a template whose result holds what Airflow masks in logs: passwords and extras of the
    connections, and the secret Variables, that this task has read by whatever way.

    content: plain data before its templates were rendered.
    """
    from airflow.sdk.log import redact

    for path, _ in texts(content):
        value = rendered
        for part in path:
            value = value[part]
        if isinstance(value, str) and redact(value) != value:
            raise ConfigError(
                f"{where}: {dotted(path)}: the template's result holds a value that Airflow keeps secret (of a "
                "connection or a Variable), and would be written to config.yaml and to logs; give credentials by the "
                "environment, a profile, or fsspec's configuration"
            )


def check_connection(connection: Connection) -> None:
    """Mask the secrets of a Spark connection in logs.

    Raises ConfigError for one that would be on spark-submit's command line, for all users of the machine to see.
    """
    from airflow.sdk.log import mask_secret

    if "@" in (connection.host or "") or has_user_info(connection.host or ""):
        raise ConfigError(
            f"connection {connection.conn_id}: its host names a user, whose password would be on the command line of "
            "spark-submit; write the host alone, and give Spark the credentials by its own files (a kubeconfig, a "
            "properties file of the cluster)"
        )
    if connection.password:
        mask_secret(connection.password)
    for name, value in connection.extra_dejson.items():
        if name not in _SHOWN_EXTRAS:
            for _, text in texts_in(value):
                mask_secret(text)
        elif isinstance(value, str) and holds_secret("", value):
            raise ConfigError(
                f"connection {connection.conn_id}: its extra {name} holds a secret, which would be on the command line "
                "of spark-submit; take it out"
            )
