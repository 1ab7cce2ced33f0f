"""The published MovieLens editions as sources of a pipeline. See rating_sources.py for what is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gdmix_core.errors import DataError
from gdmix_core.samples import movielens_features as features
from gdmix_core.samples.layout import Format, check_directory
from gdmix_core.samples.rating_sources import Ratings, Summary, write_rating_sources


@dataclass(frozen=True)
class Edition:
    """A published form of the data. files: those that are read, and by which it is recognised."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path], Ratings]


EDITIONS = (
    Edition("ml-latest-small, ml-latest, ml-25m, ml-32m", ("ratings.csv", "movies.csv"), features.read_latest),
    Edition("ml-100k", ("u.data", "u.item", "u.user"), features.read_100k),
    Edition("ml-1m", ("ratings.dat", "users.dat", "movies.dat"), features.read_1m),
)


def find_edition(folder: str | Path) -> Edition:
    """The edition whose files the folder holds. Raises DataError that says which files were looked for."""
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder")
    for edition in EDITIONS:
        if all((path / name).is_file() for name in edition.files):
            return edition
    wanted = "; ".join(f"{', '.join(edition.files)} ({edition.name})" for edition in EDITIONS)
    raise DataError(f"{path}: holds no MovieLens edition. Looked for: {wanted}. Unpack the archive and give its folder")


def read_movielens(folder: str | Path) -> Ratings:
    """The ratings of the edition in the folder, with their features. Raises DataError for unusable files."""
    return find_edition(folder).read(Path(folder))


def write_movielens(
    folder: str | Path, output: str, *, format: Format = "tfrecord", compression: Literal["", ".gz"] = ""
) -> Summary:
    """Reads the edition in `folder` and writes the sources global, per_user and per_movie under `output`."""
    check_directory(output)
    return write_rating_sources(output, read_movielens(folder), format=format, compression=compression)
