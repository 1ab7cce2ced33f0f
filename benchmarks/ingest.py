"""Ingest: TFRecord to frame and frame to shards with both data engines, and parts alone, beside protobuf's own parser.

python benchmarks/ingest.py [--rows 4000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

from gdmix_core.config.pipeline import Config
from gdmix_core.data.ingest.records import read_records, read_uids
from gdmix_core.data.ingest.source import open_layout
from gdmix_core.execution.local_run import carry_out_data_step
from gdmix_core.pipeline.run import Run
from gdmix_core.samples.generated_rows import RowShape, generate_rows
from gdmix_core.storage import read_json

SHAPE = RowShape(entity_nnz=1)


def config(folder: str, engine: str = "embedded") -> Config:
    return Config.model_validate(
        {
            "name": "ingest",
            "input": f"{folder}/input",
            "output": f"{folder}/run-{engine}",
            "engine": {"data": engine},
            "columns": {"label": "response"},
            "coordinates": {
                "global": {"fixed_effect": {}, "bag": "features"},
                "per_entity": {"random_effect": {"entity": "entity_id"}, "bag": "features"},
            },
        }
    )


def protobuf_rate(path: str, records: int = 20_000) -> float:
    """Rows per second of protobuf's parser on the same records, on one core; it does not even build the columns."""
    from tensorflow.core.example.example_pb2 import Example

    from gdmix_core.data.tfrecord.files import iter_chunks

    payloads = []
    for chunk in iter_chunks(path):
        payloads += [chunk.data[s : s + n].tobytes() for s, n in zip(chunk.starts, chunk.lengths, strict=True)]
        if len(payloads) >= records:
            break

    def parse() -> None:
        for payload in payloads[:records]:
            Example.FromString(payload)

    return min(records, len(payloads)) / machine.median_seconds(parse, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--json", type=Path, help="writes the rows of `make bench` there")
    arguments = parser.parse_args()
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        generate_rows(f"{folder}/input", rows=arguments.rows, shape=SHAPE)
        rows = data_steps(folder, arguments.rows)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows))
        else:
            parts(folder)


def data_steps(folder: str, count: int) -> list[dict[str, Any]]:
    """Both data steps with both engines, as rows of the table."""
    rows = []
    for step, what in (("validate", "TFRecord to frame"), ("partition", "frame to shards")):
        ours = None
        for engine in ("embedded", "spark"):
            settings = config(folder, engine)
            run = Run.create(settings)
            with machine.PeakMemory() as peak:
                total = machine.once(lambda: carry_out_data_step(run, run.plan[step]))  # noqa: B023
            start_up = _start_up(settings, folder, step)
            told = total > 1.2 * start_up  # else it drowns in what the start-up varies by
            seconds = total - start_up if told else total
            rate = f"{count / seconds:,.0f} rows/s" if told else "too few rows to tell"
            print(f"{engine}: {what}: {total:.1f} s, {start_up:.1f} s of it start-up: {rate} after it")
            rows.append(
                {
                    "comparison": what,
                    "objective": "the same files to the byte",
                    "sizes": {"rows": count},
                    "who": "ours" if engine == "embedded" else "peers.our_same_step_on_Spark",
                    "seconds": seconds,
                    "runs": 1,
                    "peak_memory": peak.bytes,
                    "result": rate,
                    "note": f"{'after' if told else 'with'} {start_up:.1f} s of start-up",
                    "ratio": ours / seconds if ours and told else None,
                }
            )
            ours = ours or seconds
            if step == "validate":
                assert read_json(run.frame("manifest.json"))["splits"]["training"]["rows"] == count
    return rows


def parts(folder: str) -> None:
    """Reading and decoding alone, beside protobuf's parser."""
    settings = config(folder)
    layout = open_layout(settings)
    piece, source = layout.pieces[0], layout.sources[0]
    count = sum(len(uids) for uids in read_uids(piece, source, settings))
    uids = count / machine.median_seconds(lambda: list(read_uids(piece, source, settings)), 3)
    decode = count / machine.median_seconds(lambda: [None for _ in read_records(piece, source, settings)], 3)
    peer = protobuf_rate(piece.path)
    print(f"10 non-zeros a row, {len(layout.pieces)} pieces; one core:")
    print(f"protobuf's parser          {peer:12.0f} rows/s")
    print(f"ours: uids alone           {uids:12.0f} rows/s   {uids / peer:5.1f} x protobuf")
    print(f"ours: decode and check     {decode:12.0f} rows/s   {decode / peer:5.1f} x protobuf")


def _start_up(settings: Config, folder: str, step: str) -> float:
    """Seconds of the same step on next to nothing: of Spark the JVM, the session, Python workers, imports."""
    small = f"{folder}/small"
    generate_rows(f"{small}/input", rows=1000, shape=SHAPE)
    run = Run.create(settings.model_copy(update={"input": f"{small}/input", "output": f"{small}/run-{time.time_ns()}"}))
    if step != "validate":
        carry_out_data_step(run, run.plan["validate"])
    return machine.once(lambda: carry_out_data_step(run, run.plan[step]))


if __name__ == "__main__":
    main()
