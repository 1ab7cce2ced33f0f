"""DuckDB's sort of a stream of rows, within a bound of memory and beyond it in a folder."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import duckdb
import pyarrow as pa

from gdmix_core.errors import StorageError

_ROWS_PER_BATCH = 16_384
_MOST_BYTES = 1 << 30  # of a column in a batch, which has 32-bit offsets


class Sorter:
    """A separate DuckDB that sorts one stream of rows.

    cores: threads; memory: bytes; spill: a folder for what is larger; ended: set when the block is left, for those who
    make the rows
    """

    def __init__(self, cores: int, memory: int, spill: str, ended: threading.Event) -> None:
        self._spill = spill
        self._ended = ended
        self._idle = threading.Event()
        self._idle.set()
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": cores,
                "memory_limit": f"{memory >> 20}MiB",
                "temp_directory": spill,
                "arrow_large_buffer_size": True,
                "preserve_insertion_order": False,
                # Nothing is fetched from anywhere.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )

    def __enter__(self) -> Sorter:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._connection.interrupt()
        self._idle.wait()
        self._connection.close()

    def ordered(self, rows: Iterator[pa.RecordBatch], schema: pa.Schema, by: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows sorted by the columns `by`, null first, texts by their bytes.

        Raises what reading raises, and StorageError where there is no room to spill.
        """
        failure: list[BaseException] = []

        def guarded() -> Iterator[pa.RecordBatch]:
            # DuckDB would turn an error into a text. Columns go by number: its names do not know upper case.
            try:
                for batch in rows:
                    if self._ended.is_set():
                        raise CancelledError
                    yield batch.rename_columns(numbered)
            except BaseException as error:
                failure.append(error)
                raise

        numbered = [f"c{k}" for k in range(len(schema))]
        reader = pa.RecordBatchReader.from_batches(
            pa.schema([field.with_name(name) for field, name in zip(schema, numbered, strict=True)]), guarded()
        )
        keys = ", ".join(f"{numbered[schema.get_field_index(name)]} NULLS FIRST" for name in by)
        self._idle.clear()
        try:
            self._connection.register("rows", reader)
            for batch in self._connection.sql(f"SELECT * FROM rows ORDER BY {keys}").to_arrow_reader(_ROWS_PER_BATCH):
                yield from _in_schema(batch, schema)
        except (duckdb.Error, pa.ArrowException) as error:
            if failure:
                raise failure[0] from None
            raise self._explained(error) from None
        finally:
            self._idle.set()

    def _explained(self, error: Exception) -> Exception:
        """Return the error with advice for the user if too little room caused it."""
        text = str(error).splitlines()[0]
        if re.search(r"No space left|offload|temporary directory|disk", text, re.IGNORECASE):
            return StorageError(
                f"{self._spill}: no room for what is sorted ({text}); make room there, let engine.local.spill name "
                "another folder, or raise engine.local.memory"
            )
        if isinstance(error, duckdb.OutOfMemoryException):
            return StorageError(f"too little memory to sort ({text}); raise engine.local.memory")
        return error


def _in_schema(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the batch in the types of the schema: in several, where one would be too large for 32-bit offsets."""
    wide = [c for c in batch.columns if pa.types.is_large_binary(c.type) or pa.types.is_large_string(c.type)]
    if batch.num_rows > 1 and any(column.nbytes > _MOST_BYTES for column in wide):
        half = batch.num_rows // 2
        yield from _in_schema(batch.slice(0, half), schema)
        yield from _in_schema(batch.slice(half), schema)
        return
    columns = [c.cast(field.type) for c, field in zip(batch.columns, schema, strict=True)]
    yield pa.RecordBatch.from_arrays(columns, schema=schema)
