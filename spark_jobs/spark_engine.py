"""The data engine of a cluster: rows are read, shuffled and written by the tasks of a Spark application."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from gdmix_core.data.engines.interface import Feed, Write
from gdmix_core.data.engines.uid_ranges import UidSample, range_of
from gdmix_core.data.id_types import from_order_preserving, order_preserving

# The batches between the JVM and the Python workers; larger ones cost memory, smaller ones calls.
_ROWS_PER_BATCH = 50_000
_RANGE = "range"
_STATISTICS = "statistics"


class SparkEngine:
    """A DataEngine over the session that spark-submit configured, or a local one; or the caller's own, which stays.

    The session starts with the first use, and stops when the block ends.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._session = contextlib.ExitStack()

    def __enter__(self) -> SparkEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._session.close()

    def by_range(
        self,
        records: Feed,
        scores: Feed,
        uids: Callable[[int], Iterable[pa.Array]],
        starts: Callable[[UidSample], pa.Array],
        write: Write,
    ) -> list[dict[str, Any]]:
        """Reads the records twice: for the sample, and for the rows."""
        spark = self._spark()
        begins = starts(_sample(spark, records, uids))
        schema = pa.schema([pa.field(_RANGE, pa.int32()), *records.schema])

        def with_range(batch: pa.RecordBatch) -> pa.RecordBatch:
            ranges = pa.array(range_of(batch.column("uid"), begins))
            return pa.RecordBatch.from_arrays([ranges, *batch.columns], schema=schema)

        rows = _read(spark, records, schema, with_range)
        if scores.sizes:
            rows = rows.union(_read(spark, scores, schema, with_range))
        return _written(rows.repartitionById(len(begins) + 1, _RANGE), schema, _RANGE, write, drop=True)

    def by_column(
        self, feed: Feed, column: str, groups: int, order: Sequence[str], write: Write
    ) -> list[dict[str, Any]]:
        spark = self._spark()
        rows = _read(spark, feed, feed.schema, lambda batch: batch)
        grouped = rows.repartitionById(groups, column).sortWithinPartitions(*order)
        return _written(grouped, feed.schema, column, write)

    def _spark(self) -> SparkSession:
        existing = SparkSession.getActiveSession()
        spark = (
            SparkSession.builder.appName(self._name)
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(_ROWS_PER_BATCH))
            .config("spark.sql.session.timeZone", "UTC")
            .getOrCreate()
        )
        if existing is None:
            self._session.callback(spark.stop)
        return spark


def _sample(spark: SparkSession, records: Feed, uids: Callable[[int], Iterable[pa.Array]]) -> UidSample:
    """The sample of the uids of all tasks' pieces, from each task's own."""
    uid = records.schema.field("uid").type
    schema = pa.schema([("records", pa.int64()), ("uids", pa.list_(_spark_type(uid)))])
    tasks = records.tasks(spark.sparkContext.defaultParallelism)

    def scan(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own = UidSample()
        for number in _pieces_of(batches, tasks):
            for read in uids(number):
                own.add(read)
        sampled = own.uids()
        found = [[] if sampled is None else _to_spark(sampled).to_pylist()]
        yield pa.record_batch([pa.array([own.count]), pa.array(found, schema.field(1).type)], schema=schema)

    table = _numbers(spark, tasks).mapInArrow(scan, from_arrow_schema(schema)).toArrow()
    sample = UidSample()
    for count, found in zip(table["records"].to_pylist(), table["uids"], strict=True):
        sample.add(_from_spark(found.values.cast(_spark_type(uid)), uid), count)
    return sample


def _read(
    spark: SparkSession, feed: Feed, schema: pa.Schema, prepare: Callable[[pa.RecordBatch], pa.RecordBatch]
) -> DataFrame:
    tasks = feed.tasks(spark.sparkContext.defaultParallelism)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from (to_spark(prepare(rows)) for rows in feed.rows(_pieces_of(batches, tasks)))

    return _numbers(spark, tasks).mapInArrow(read, from_arrow_schema(for_spark(schema)))


def _written(
    rows: DataFrame, schema: pa.Schema, group: str, write: Write, *, drop: bool = False
) -> list[dict[str, Any]]:
    """Return what `write` returns for each group, which is a partition; drop: whether the column is for Spark alone."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        received = (from_spark(batch, schema) for batch in batches if batch.num_rows)
        if (first := next(received, None)) is None:
            return
        number = first.column(group)[0].as_py()

        def all_rows() -> Iterator[pa.RecordBatch]:
            for batch in (part for parts in ([first], received) for part in parts):
                yield batch.drop_columns([group]) if drop else batch

        yield pa.record_batch([pa.array([json.dumps(write(number, all_rows()))])], names=[_STATISTICS])

    return [json.loads(row.statistics) for row in rows.mapInArrow(run, f"{_STATISTICS} string").collect()]


def _numbers(spark: SparkSession, tasks: Sequence[Sequence[int]]) -> DataFrame:
    """One row, and one Spark task, for every task: its number."""
    return spark.range(0, len(tasks), 1, len(tasks))


def _pieces_of(batches: Iterable[pa.RecordBatch], tasks: Sequence[Sequence[int]]) -> Iterator[int]:
    """The pieces of the tasks whose numbers a Spark task finds in its rows."""
    for batch in batches:
        for task in batch.column(0).to_pylist():
            yield from tasks[task]


def _spark_type(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_uint64(kind) else kind


def _to_spark(column: pa.Array) -> pa.Array:
    """Spark has no unsigned integers, and sorts int64 in their place as they are to be sorted."""
    return order_preserving(column) if pa.types.is_uint64(column.type) else column


def _from_spark(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return from_order_preserving(column) if pa.types.is_uint64(kind) else column


def for_spark(schema: pa.Schema) -> pa.Schema:
    """The schema as Spark can have it: without unsigned integers, and with names that it does not take for paths into
    structs, as distinct as they were."""
    encoded = [name.replace("%", "%25").replace(".", "%2E").replace("`", "%60") for name in schema.names]
    return pa.schema([pa.field(name, _spark_type(field.type)) for field, name in zip(schema, encoded, strict=True)])


def to_spark(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the schema that for_spark gives."""
    return pa.RecordBatch.from_arrays([_to_spark(c) for c in batch.columns], schema=for_spark(batch.schema))


def from_spark(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The inverse of to_spark."""
    columns = [_from_spark(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
