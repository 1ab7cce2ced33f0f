"""Where the time of a run goes: seconds of cores by phase, for each step of a linear pipeline.

    python benchmarks/phases.py [--rows 2000000] [--folder DIR]

A hundred times a second every thread of this process is asked what it is doing, and the time of a core that it has had
since counts for that. Threads that are not Python's are DuckDB's in the data steps, which sort, and Arrow's elsewhere,
which read. What this process did not have of the cores is waiting: for the disk, for each other, for the interpreter's
lock, or for other processes. Needs pthread_getcpuclockid, as Linux has it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import machine
from large import configuration

from gdmix_core.config.pipeline import Config
from gdmix_core.execution import dispatch
from gdmix_core.execution.local_run import carry_out_data_step
from gdmix_core.pipeline.run import Run
from gdmix_core.samples.generated_rows import RowShape, generate_rows

# The innermost function of a thread in one of these files says the phase.
PHASES = {
    "read": ("tfrecord/files.py", "parquet/core.py", "data/byte_streams.py", "storage.py", "data/frame.py",
             "data/shards.py", "data/mapped_arrays.py", "numpy/_core/memmap.py"),
    "decode": ("tfrecord/decoder.py", "tfrecord/scan.py", "tfrecord/runs.py", "tfrecord/frames.py",
               "ingest/parquet_records.py", "ingest/records.py", "ingest/stored_columns.py",
               "ingest/scalar_columns.py"),
    "check": ("ingest/record_checks.py", "data/checked_arrays.py", "ingest/presence.py", "ingest/label_scale.py",
              "tfrecord/crc32c.py", "pipeline/manifests.py", "pipeline/contents.py", "data/ragged.py"),
    "shuffle": ("engines/packing.py", "engines/uid_ranges.py", "data/hashing.py", "ingest/shuffled_records.py",
                "engines/embedded.py", "workers/prefetch.py"),
    "sort": ("engines/sorter.py",),
    "write": ("ingest/blocks.py", "data/partition.py", "models/native.py", "data/scores.py"),
    "solve and score": ("solvers/", "effects/", "workers/threads.py"),
    "metrics": ("metrics/", "evaluation/"),
}  # fmt: skip
_PARQUET_WRITER = ("write_table", "write_batch", "write")


def phase_of(frame: FrameType | None) -> str:
    while frame is not None:
        file = frame.f_code.co_filename
        if file.endswith("parquet/core.py") and frame.f_code.co_name in _PARQUET_WRITER:
            return "write"
        for phase, files in PHASES.items():
            if any(part in file if part.endswith("/") else file.endswith(part) for part in files):
                return phase
        frame = frame.f_back
    return "other"


class Phases:
    """Seconds of cores by phase, while it is entered."""

    def __init__(self, foreign: str) -> None:
        self.seconds: Counter[str] = Counter()
        self._foreign, self._over = foreign, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Phases:
        self._before: dict[int, float] = {}
        self._began, self._all = time.perf_counter(), time.process_time()
        self._look(count=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self.wall, used = time.perf_counter() - self._began, time.process_time() - self._all
        self.seconds[self._foreign] += max(0.0, used - sum(self.seconds.values()))
        self.seconds["wait"] = max(0.0, self.wall * machine.cores() - used)

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self._look()

    def _look(self, *, count: bool = True) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if thread.ident is None:
                continue
            try:
                now = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            except OSError:  # it has just ended
                continue
            phase = "other" if thread is self._thread else phase_of(frames.get(thread.ident))
            if count:
                before = self._before.get(thread.ident, 0.0)
                self.seconds[phase] += now - before if now >= before else now  # a new thread may have an old one's name
            self._before[thread.ident] = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder")
    arguments = parser.parse_args()
    names = (*PHASES, "other", "wait")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for rows in (2_000, arguments.rows):  # the first run imports and compiles
            place = Path(folder, str(rows))
            generate_rows(f"{place}/input", rows=rows, validation_rows=rows // 10, shape=RowShape(entities=rows // 20))
            engine = {"data": "embedded", "local": {"processes": 1}}
            run = Run.create(Config.model_validate(configuration(str(place)) | {"engine": engine}))
            table = []
            for step in run.plan.steps:
                data_step = step.kind in ("validate", "partition")
                with Phases("sort" if data_step else "read") as phases:
                    carry_out_data_step(run, step) if data_step else dispatch.execute(run, step)
                cells = " | ".join(f"{phases.seconds[name]:.1f}" for name in names)
                table.append(f"| {step.id} | {phases.wall:.1f} | {cells} |")
    print(f"{machine.describe()}\n{arguments.rows} rows; seconds, and seconds of cores by phase\n")
    print(f"| step | seconds | {' | '.join(names)} |\n|---|{'---|' * (len(names) + 1)}")
    print("\n".join(table))


if __name__ == "__main__":
    main()
