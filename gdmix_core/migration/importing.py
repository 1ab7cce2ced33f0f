"""`gdmix config import`: finds out what a file is, translates it, and checks that the result is a configuration."""

from __future__ import annotations

from pathlib import Path

from gdmix_core import storage
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.migration.gdmix_yaml import translate_gdmix
from gdmix_core.migration.photon_command import translate_photon
from gdmix_core.migration.translation import Translation
from gdmix_core.pipeline.loading import load_yaml, parse_config
from gdmix_core.system_errors import as_user_error


def import_config(path: str | Path, source: str | None = None, output: str | None = None) -> Translation:
    """Translate a GDMix workflow's YAML, or a text file with a Photon ML GAME training command.

    source, output: take the place of the input and output that follow from the file.
    Raises ConfigError when the file is neither, or what it says cannot be said here.
    """
    try:
        with storage.open_for_read(str(path)) as file:
            text = file.read().decode("utf-8-sig")
    except (UnicodeDecodeError, DataError) as error:
        raise ConfigError(str(as_user_error(error, str(path)))) from None
    try:
        result = translate_photon(text) if "--coordinate-configurations" in text else translate_gdmix(load_yaml(path))
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith(str(path)) else f"{path}: {message}") from None
    for key, value in (("input", source), ("output", output)):
        if value is not None:
            result.content[key] = value.rstrip("/") or "/"
    if "{{" not in result.content["output"]:
        dated = result.content["output"] + "/{{ ds }}"
        result.check("output", f"on a schedule every run needs a folder of its own: put a date in, such as {dated}")
    parse_config(result.content, where=f"{path}, translated")
    return result
