"""A model trained by several processes of this machine: started, watched, restarted when one dies."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gdmix_core.workers import processes
from gdmix_core.workers.process import LOST_WORKER, TERMINATED

log = logging.getLogger(__name__)

_HOST = "127.0.0.1"
# After one worker has failed, those that are still there by then are frozen.
_GRACE_SECONDS = 5.0
# Between two polls of the processes; after ten of them without one this process itself was stopped.
_POLL_SECONDS = 0.2

Event = processes.Event


@dataclass(frozen=True)
class WorkerGroup:
    """The processes that train a step together.

    module, arguments: what each of them runs; it reports its outcome and its errors as process.main does
    jobs: how many of each job of TensorFlow's cluster, such as {"worker": 2}; the first of the first one reports
    replaceable: jobs whose processes the others can do without until a new one is there
    servers: whether all but the first only serve it, and end with it
    restarts: how often all may start again after one died
    heartbeat_timeout: seconds; who has sent heartbeats (process.send_heartbeats) is killed after so long without one
    """

    step_id: str
    module: str
    arguments: Sequence[str]
    jobs: Mapping[str, int]
    restarts: int
    environment: Mapping[str, str] = field(default_factory=dict)
    replaceable: tuple[str, ...] = ()
    servers: bool = False
    heartbeat_timeout: float = 60.0

    @property
    def members(self) -> list[tuple[str, int]]:
        """(job, index within the job) of every process."""
        return [(job, index) for job, count in self.jobs.items() for index in range(count)]

    @property
    def size(self) -> int:
        return sum(self.jobs.values())


def train_together(group: WorkerGroup, on_event: Callable[[Event], None]) -> dict[str, Any]:
    """Return the outcome. When a process dies all start again, `restarts` times at most.

    on_event: told of whatever a process reports besides its outcome and its errors
    Raises StepError: at once for a mistake that a process reports, as it would be made again; otherwise when no
    restart is left.
    """
    for restarts in range(group.restarts + 1):
        attempt = _Attempt(group, on_event)
        attempt.run()
        if attempt.succeeded:
            assert attempt.outcome is not None
            return attempt.outcome
        if attempt.errors:
            raise processes.explain((), attempt.errors, group.step_id)
        deaths = attempt.deaths()
        if not deaths:  # the task was killed, so nobody waits for the result
            raise processes.explain((), (), group.step_id)
        if restarts < group.restarts:
            log.warning(
                "%s: %s; starting all %d workers again from the checkpoint (restart %d of %d)",
                group.step_id, "; ".join(deaths), group.size, restarts + 1, group.restarts,
            )  # fmt: skip
    raise processes.explain((), deaths, f"{group.step_id}, after {group.restarts} restarts")


class _Attempt:
    """One attempt of all processes, from their start to their end.

    outcome: what the first one reports at the end; codes: exit codes; errors: the mistakes reported
    """

    def __init__(self, group: WorkerGroup, on_event: Callable[[Event], None]) -> None:
        self._group = group
        self._tell = on_event
        self._names = [f"{job} {index}" for job, index in group.members]
        self.outcome: dict[str, Any] | None = None
        self.codes: list[int] = []
        self.errors: list[str] = []
        self._failures: dict[int, str] = {}
        self._lost: str | None = None
        self._frozen: set[int] = set()
        self._heard: dict[int, float] = {}
        self._polled = time.monotonic()
        self._workers: list[subprocess.Popen[str]] = []
        self._replacements = 0
        self._over = threading.Event()

    def run(self) -> None:
        group = self._group
        with _reserved_ports(group.size) as ports:
            self._environments = _environments(group, ports)
            self._workers = [self._start(number) for number in range(group.size)]
            log.info(
                "%s: %s (pids %s)",
                group.step_id, _shown(group.jobs), " ".join(str(worker.pid) for worker in self._workers),
            )  # fmt: skip
            threading.Thread(target=self._end_frozen, daemon=True).start()
            try:
                self.codes = processes.wait_all(
                    self._workers, self._on_event, leader=0 if group.servers else None, replace=self._replace
                )
            finally:
                self._over.set()

    @property
    def succeeded(self) -> bool:
        counted = self.codes[:1] if self._group.servers else self.codes
        return self.outcome is not None and not any(counted)

    def deaths(self) -> list[str]:
        """Say which processes died and why, not those that ended because another had; [] if all were told to end."""
        because_of_another = (0, -signal.SIGTERM, TERMINATED, LOST_WORKER)
        found = [
            f"{self._names[number]} {self._death(number, code)}"
            for number, code in enumerate(self.codes)
            if code not in because_of_another
        ]
        return found or ([self._lost] if self._lost else [])

    def _death(self, number: int, code: int) -> str:
        if number in self._frozen:
            return "did not answer"
        if number in self._failures:
            return f"failed with {self._failures[number]}"
        return f"{'ended with' if code > 0 else 'was'} {processes.describe_exit(code)}"

    def _start(self, number: int) -> subprocess.Popen[str]:
        return processes.start(self._group.module, self._group.arguments, self._environments[number])

    def _replace(self, number: int, code: int) -> subprocess.Popen[str] | None:
        """Start another process in the place of one that died, where the rest can do without it meanwhile."""
        job, _ = self._group.members[number]
        told = code in (TERMINATED, -signal.SIGTERM)
        if job not in self._group.replaceable or told or self.errors or self.outcome:
            return None
        if self._replacements >= self._group.restarts:
            return None
        self._replacements += 1
        log.warning(
            "%s: %s %s; starting another in its place",
            self._group.step_id, self._names[number], self._death(number, code),
        )  # fmt: skip
        self._frozen.discard(number)
        self._workers[number] = self._start(number)
        return self._workers[number]

    def _on_event(self, number: int, event: Event) -> None:
        if "outcome" in event:
            self.outcome = event["outcome"]
        elif "error" in event:
            self.errors.append(event["error"])
        elif "failure" in event:
            self._failures[number] = event["failure"]
        elif "lost" in event:
            self._lost = self._lost or f"{self._names[number]} lost another: {event['lost']}"
        elif "alive" in event:
            self._heard[number] = time.monotonic()
        else:
            self._tell(event)

    def _end_frozen(self) -> None:
        """Kill a worker that is stopped, or stuck in the kernel: it ignores SIGTERM and would be waited for forever."""
        members = self._group.members
        needed = [n for n, (job, _) in enumerate(members) if job not in self._group.replaceable]
        while not any(self._workers[number].poll() for number in needed):
            if self._over.wait(_POLL_SECONDS):
                return
            self._end_silent()
        if self._over.wait(_GRACE_SECONDS):
            return
        for number, worker in enumerate(self._workers):
            if worker.poll() is None:
                self._kill_frozen(number)

    def _end_silent(self) -> None:
        """Kill a server that is frozen: the others would wait for it, and nothing else shows that it is."""
        now = time.monotonic()
        if now - self._polled > 10 * _POLL_SECONDS:
            self._heard = dict.fromkeys(self._heard, now)
        self._polled = now
        for number, heard in list(self._heard.items()):
            if now - heard > self._group.heartbeat_timeout:
                del self._heard[number]
                if self._workers[number].poll() is None:
                    self._kill_frozen(number)

    def _kill_frozen(self, number: int) -> None:
        self._frozen.add(number)
        self._workers[number].kill()


@contextlib.contextmanager
def _reserved_ports(count: int) -> Iterator[list[int]]:
    """Reserve free ports that stay this process's own until its workers have them.

    TensorFlow's import takes seconds, in which a port that was merely found free may be given to somebody else. So
    they are kept, bound but without listening; SO_REUSEPORT lets the workers bind them too.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((_HOST, 0))
        yield [held.getsockname()[1] for held in sockets]


def _environments(group: WorkerGroup, ports: Sequence[int]) -> list[dict[str, str]]:
    cluster: dict[str, list[str]] = {}
    for (job, _), port in zip(group.members, ports, strict=True):
        cluster.setdefault(job, []).append(f"{_HOST}:{port}")
    return [
        {
            "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}}),
            "TF_GRPC_REUSE_PORT": "1",
            # gRPC would ask a proxy for the way to this very machine, and wait for ever.
            "no_grpc_proxy": _HOST,
            **group.environment,
        }
        for job, index in group.members
    ]


def _shown(jobs: Mapping[str, int]) -> str:
    """Format as 2 workers; 1 chief, 2 workers, 1 ps."""
    return ", ".join(f"{count} {job}{'s' if job == 'worker' and count > 1 else ''}" for job, count in jobs.items())
