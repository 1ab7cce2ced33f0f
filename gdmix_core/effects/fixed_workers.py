"""A fixed effect trained by several processes of this machine: started, watched, restarted when one dies."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from gdmix_core import processes, progress
from gdmix_core.effects.cores import core_count
from gdmix_core.effects.fixed import settings_of
from gdmix_core.effects.fixed_worker import LOST_WORKER, TOLD_TO_END
from gdmix_core.plan import Step
from gdmix_core.run import Run

log = logging.getLogger("gdmix_core.fixed_effect")

_HOST = "127.0.0.1"
# After one worker has failed, those that are still there by then are frozen.
_GRACE_SECONDS = 5.0


def train_with_workers(run: Run, step: Step) -> dict[str, Any]:
    """Returns the outcome of `fit`. When a worker dies all start again, `restarts` times at most.

    Raises StepError: at once for a mistake that a worker reports, as it would be made again; otherwise when no
    restart is left.
    """
    effect = settings_of(run, step)
    report = progress.reporter()
    for restarts in range(effect.restarts + 1):
        attempt = _Attempt(run, step, report)
        attempt.go()
        if attempt.outcome is not None and not any(attempt.codes):
            return attempt.outcome
        if attempt.errors:
            raise processes.explain((), attempt.errors, step.id)
        deaths = attempt.deaths()
        if not deaths:  # the task was killed, so nobody waits for the result
            raise processes.explain((), (), step.id)
        if restarts < effect.restarts:
            log.warning(
                "%s: %s; starting all %d workers again from the checkpoint (restart %d of %d)",
                step.id, "; ".join(deaths), effect.workers, restarts + 1, effect.restarts,
            )  # fmt: skip
    raise processes.explain((), deaths, f"{step.id}, after {effect.restarts} restarts")


class _Attempt:
    """All workers once, from their start to their end.

    outcome: what the first one reports at the end; codes: exit codes, by rank; errors: the mistakes reported
    """

    def __init__(self, run: Run, step: Step, report: progress.Listener) -> None:
        self._run, self._step, self._report = run, step, report
        self._effect = settings_of(run, step)
        self.outcome: dict[str, Any] | None = None
        self.codes: list[int] = []
        self.errors: list[str] = []
        self._failures: dict[int, str] = {}
        self._lost: str | None = None
        self._frozen: set[int] = set()
        self._workers: list[subprocess.Popen[str]] = []
        self._over = threading.Event()

    def go(self) -> None:
        threads = max(1, core_count(self._run.config) // self._effect.workers)
        arguments = ["--run", self._run.root, "--step", self._step.id, "--threads", str(threads)]
        with _reserved_ports(self._effect.workers) as ports:
            self._workers = [
                processes.start("gdmix_core.effects.fixed_worker", arguments, _environment(rank, ports))
                for rank in range(len(ports))
            ]
            log.info(
                "%s: %d workers (pids %s), %d threads each",
                self._step.id, len(ports), " ".join(str(worker.pid) for worker in self._workers), threads,
            )  # fmt: skip
            threading.Thread(target=self._end_frozen, daemon=True).start()
            try:
                self.codes = processes.wait_all(self._workers, self._on_event)
            finally:
                self._over.set()

    def deaths(self) -> list[str]:
        """Which workers died and why; not those that ended because another had. Empty when all were told to end."""
        because_of_another = (0, -signal.SIGTERM, TOLD_TO_END, LOST_WORKER)
        found = [
            f"worker {rank} {self._death(rank, code)}"
            for rank, code in enumerate(self.codes)
            if code not in because_of_another
        ]
        return found or ([self._lost] if self._lost else [])

    def _death(self, rank: int, code: int) -> str:
        if rank in self._frozen:
            return "did not answer"
        if rank in self._failures:
            return f"failed with {self._failures[rank]}"
        return f"{'ended with' if code > 0 else 'was'} {processes.describe_exit(code)}"

    def _on_event(self, rank: int, event: processes.Event) -> None:
        if "iteration" in event:
            what = f"{self._step.id}: objective {event['objective']:.6g}"
            self._report(event["iteration"], self._effect.max_iterations, what)
        elif "outcome" in event:
            self.outcome = event["outcome"]
        elif "error" in event:
            self.errors.append(event["error"])
        elif "failure" in event:
            self._failures[rank] = event["failure"]
        elif "lost" in event and self._lost is None:
            self._lost = f"worker {rank} lost another: {event['lost']}"

    def _end_frozen(self) -> None:
        """A worker that is stopped, or stuck in the kernel, ignores SIGTERM and would be waited for forever."""
        while not any(worker.poll() for worker in self._workers):
            if self._over.wait(0.2):
                return
        if self._over.wait(_GRACE_SECONDS):
            return
        for rank, worker in enumerate(self._workers):
            if worker.poll() is None:
                self._frozen.add(rank)
                worker.kill()


@contextlib.contextmanager
def _reserved_ports(count: int) -> Iterator[list[int]]:
    """Free ports that stay this process's own until its workers have them.

    TensorFlow's import takes seconds, in which a port that was merely found free may be given to somebody else. So
    they are kept, bound but without listening; SO_REUSEPORT lets the workers bind them too.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((_HOST, 0))
        yield [held.getsockname()[1] for held in sockets]


def _environment(rank: int, ports: list[int]) -> dict[str, str]:
    cluster = {"worker": [f"{_HOST}:{port}" for port in ports]}
    return {
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}}),
        "TF_GRPC_REUSE_PORT": "1",
        # gRPC would ask a proxy for the way to this very machine, and wait for ever.
        "no_grpc_proxy": _HOST,
        # Every worker does the optimiser's vector arithmetic; with one thread all get the same bits.
        "OPENBLAS_NUM_THREADS": "1",
    }
