"""The records of model files as flat arrays, before they are sorted into a table."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import fastavro
import numpy as np
from numpy.typing import NDArray

from gdmix_core.data.feature_list import Feature
from gdmix_core.errors import DataError
from gdmix_core.storage import open_for_read


class Entries:
    """The means, or the variances, of all records one after the other."""

    def __init__(self) -> None:
        self._counts = array("q")
        self._features = array("q")
        self._values = array("d")

    def append(self, entries: list[Mapping[str, Any]] | None, numbers: Mapping[Feature, int]) -> None:
        """Add the entries of one record; numbers: gives every feature, known or new, its number."""
        entries = entries or []
        self._counts.append(len(entries))
        # Some writers leave an empty term null.
        self._features.extend([numbers[entry["name"], entry["term"] or ""] for entry in entries])
        self._values.extend([entry["value"] for entry in entries])

    @property
    def counts(self) -> NDArray[np.int64]:
        """Entries per record, int64 [records]."""
        return np.asarray(self._counts, dtype=np.int64)

    @property
    def features(self) -> NDArray[np.int64]:
        """Number of each entry's feature, int64 [entries]."""
        return np.asarray(self._features, dtype=np.int64)

    @property
    def values(self) -> NDArray[np.float64]:
        """float64 [entries]"""
        return np.asarray(self._values, dtype=np.float64)


class ModelRecords:
    """All records of some model files, in the order of the files.

    paths:           the files read
    model_ids:       one a record
    model_classes:   each class name met, with the first file that names it
    feature_numbers: (name, term) -> number, in order of appearance; the features of entries refer to it
    has_variances:   whether any record has an array of variances
    """

    def __init__(self, paths: Iterable[str]) -> None:
        """Raise DataError for files that are absent, damaged or not model files."""
        self.paths: list[str] = []
        self.model_ids: list[str] = []
        self.model_classes: dict[str, str] = {}
        self.means = Entries()
        self.variances = Entries()
        self.has_variances = False
        self.feature_numbers: defaultdict[Feature, int] = defaultdict()
        self.feature_numbers.default_factory = self.feature_numbers.__len__
        self._records_before: list[int] = []
        for path in paths:
            self._read(path)
        if not all(isinstance(name, str) for name, _ in self.feature_numbers):
            raise DataError(f"{', '.join(self.paths)}: a coefficient has no feature name")

    def path_of(self, record: int) -> str:
        return self.paths[int(np.searchsorted(self._records_before, record, side="right")) - 1]

    def _read(self, path: str) -> None:
        self.paths.append(path)
        self._records_before.append(len(self.model_ids))
        with open_for_read(path) as file:
            try:
                reader = fastavro.reader(file)
                columns = [column["name"] for column in reader.writer_schema["fields"]]
                if not {"modelId", "means"} <= set(columns):
                    raise DataError(f"{path}: not a model file; its records have the fields {', '.join(columns)}")
                for record in reader:
                    self._append(path, record)
            except (DataError, OSError):
                raise
            except Exception as error:  # Damaged bytes make the decoder raise nearly anything.
                record_number = len(self.model_ids) - self._records_before[-1]
                raise DataError(
                    f"{path}, record {record_number} (from 0): damaged, or not a model file "
                    f"({type(error).__name__}: {error}); write or fetch it again"
                ) from error

    def _append(self, path: str, record: Mapping[str, Any]) -> None:
        self.means.append(record["means"], self.feature_numbers)
        self.variances.append(record.get("variances"), self.feature_numbers)
        self.has_variances |= record.get("variances") is not None
        model_class = record.get("modelClass")
        if model_class is not None:
            self.model_classes.setdefault(model_class, path)
        model_id = record["modelId"]
        if not isinstance(model_id, str):
            raise DataError(f"{path}: modelId {model_id!r} is no string")
        self.model_ids.append(model_id)
