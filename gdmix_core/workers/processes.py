"""Worker processes of a step: started alike, watched together, and gone when their parent is.

A worker inherits the process group (whoever kills a task's group kills its workers), gets no standard input (in an
Airflow task that is the supervisor's socket), and asks the kernel to end it when its parent dies. One that runs code
of the user's own leads a group of its own, whose processes all end with it.

The pools of multiprocessing and concurrent.futures do not serve here: their workers outlive a parent that is killed,
and the error of a lost worker does not say which one it was, and what it died of.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from gdmix_core.errors import StepError
from gdmix_core.workers import log_lines

log = logging.getLogger(__name__)

Event = dict[str, Any]

_SECONDS_FOR_LAST_LINES = 2.0
# Longer than anybody else waits: only for what no signal but SIGKILL ends.
_GRACE_OF_OTHERS = 15.0

# Loaded once: a child that was forked must not load anything.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1

_show: Callable[[str], None] | None = None
# Of a worker: the pipe to its parent.
_events: IO[str] | None = None
_forwarding: dict[subprocess.Popen[str], threading.Thread] = {}
_ending_groups: dict[subprocess.Popen[str], threading.Thread] = {}
_running: set[subprocess.Popen[str]] = set()
# Reentrant: an operator's on_kill runs in a signal handler, which may interrupt the very code that holds it.
_lock = threading.RLock()


def end_with_parent() -> None:
    """Ask the kernel, in a child before its program begins, to kill it when its parent dies of any cause.

    For programs that are not ours, such as spark-submit, whose shell becomes the JVM: it would work on alone. Handed to
    Popen as preexec_fn; one system call, and nothing that could wait for a lock of the process that was forked.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_descendants(grace_seconds: float = 2.0) -> None:
    """End all processes below this one: SIGTERM, after the grace SIGKILL; return when none is left."""
    import psutil

    me = psutil.Process()
    children = me.children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    _, alive = psutil.wait_procs(children, timeout=grace_seconds)
    # Whatever is left, and was started meanwhile, is stopped before any of it is killed: a shell whose command is
    # gone would start the next one, which then belonged to nobody.
    stopped: set[psutil.Process] = set()
    while new := {*alive, *me.children(recursive=True)} - stopped:
        for child in new:
            with contextlib.suppress(psutil.Error):
                child.suspend()
        stopped |= new
    for child in stopped:
        with contextlib.suppress(psutil.Error):
            child.kill()


def end_on_signals(message: str, signals: Sequence[signal.Signals]) -> None:
    """Let each of the signals end this process with all below it, within seconds, and exit code 128 + signal.

    message: written to standard error then. A thread of its own waits for the signal, which the interpreter's handlers
    do not see while compiled code runs; children have the default handlers.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # What is ignored stays so: nohup, or a shell's job in the background.
    signals = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    for number in signals:
        # The main thread, as soon as it is the interpreter's turn, waits for the end: it must not tell of children that
        # fail because they are ended.
        signal.signal(number, lambda *_: time.sleep(60))
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    # What is sent to a child that somebody's code forks (multiprocessing, a trainer) must not be taken for ours: the
    # child gets the default handlers, and until it has them the signals wait.
    masks = threading.local()

    def before_fork() -> None:
        masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        in_parent()

    os.register_at_fork(before=before_fork, after_in_parent=in_parent, after_in_child=in_child)

    def end() -> None:
        while (number := os.read(reading, 1)[0]) not in signals:
            pass
        try:
            end_descendants()
            show = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
            os.write(2, f"{show}{message.format(name=signal.Signals(number).name)}\n".encode())
        finally:
            os._exit(128 + number)

    threading.Thread(target=end, daemon=True).start()


def start(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    leads_group: bool = False,
) -> subprocess.Popen[str]:
    """Start `python -m module arguments`. Its standard output carries events, a JSON object a line.

    leads_group: the worker leads a process group of its own, and what is left of the group is killed at its end
    """
    process = subprocess.Popen(
        # -P: a file of the working directory, such as random.py, is not taken for a module.
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if _show is None else subprocess.PIPE,
        text=True,
        errors="replace",  # a reader that stopped at a byte would leave the worker before a full pipe
        env={**os.environ, **(environment or {})},
        process_group=0 if leads_group else None,
    )
    if leads_group:
        ending = _ending_groups[process] = threading.Thread(target=_end_group, args=(process.pid,), daemon=True)
        ending.start()
    if _show is not None:
        shown = _forwarding[process] = threading.Thread(target=_forward, args=(process.stderr, _show), daemon=True)
        shown.start()
    with _lock:
        _running.add(process)
    return process


def _end_group(leader: int) -> None:
    """Kill what is left of a process group when its leader ends.

    The leader is left to be reaped: until then no other group can have its number.
    """
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def show_lines(show: Callable[[str], None] | None) -> None:
    """Set who shows the lines that workers write to standard error, as one who draws a bar there must; None: nobody."""
    global _show
    _show = show


def _forward(lines: IO[str], show: Callable[[str], None]) -> None:
    for line in lines:
        show(line.rstrip("\n"))


def wait_all(
    processes: Sequence[subprocess.Popen[str]],
    on_event: Callable[[int, Event], None],
    *,
    leader: int | None = None,
    replace: Callable[[int, int], subprocess.Popen[str] | None] = lambda number, code: None,
) -> list[int]:
    """Wait for all, handing every event to on_event(process number, event). Returns the exit codes.

    When one fails the others are ended, as their work would be in vain; unless replace(number, exit code) has started
    another in its place. When the leader ends, the others are ended too.
    """
    processes = list(processes)
    lock = threading.Lock()
    ended = threading.Event()

    def follow(number: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                log.info("worker %d: %s", number, line.rstrip())
                continue
            with lock:
                on_event(number, event)
        if (ending := _ending_groups.pop(process, None)) is not None:
            ending.join()
        code = process.wait()
        if (shown := _forwarding.pop(process, None)) is not None:
            shown.join(_SECONDS_FOR_LAST_LINES)  # a child of the worker's own may keep the pipe open
        if (code == 0 and number != leader) or ended.is_set():
            return
        with lock:
            another = replace(number, code) if code != 0 else None
            if another is not None:
                processes[number] = another
        if another is not None:
            follow(number, another)
            return
        ended.set()
        terminate([other for other in processes if other is not process], _GRACE_OF_OTHERS)

    threads = [threading.Thread(target=follow, args=item, daemon=True) for item in enumerate(processes)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        terminate(processes)
    return [process.returncode for process in processes]


def terminate(processes: Sequence[subprocess.Popen[str]], grace_seconds: float = 3.0) -> None:
    """Send SIGTERM, and SIGKILL to those still there after the grace, one for all; return when all have ended."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace_seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with _lock:
            _running.discard(process)


def terminate_children(grace_seconds: float = 3.0) -> None:
    """End every worker this process has started; for an operator's on_kill."""
    with _lock:
        running = list(_running)
    terminate(running, grace_seconds)


def explain(codes: Sequence[int], errors: Sequence[str], what: str) -> StepError:
    """Make the error that says which workers failed, and how; errors: their reports, which may name the step too."""
    errors = [error.removeprefix(f"{what}: ") for error in errors]
    ended = [f"worker {n}: {describe_exit(code)}" for n, code in enumerate(codes) if code not in (0, -signal.SIGTERM)]
    reasons = "; ".join(dict.fromkeys([*errors, *ended])) or "every worker was ended from outside"
    # A mistake that a worker reports says all there is to say.
    more = "" if errors and not ended else ". See the workers' lines above in this log; run the step again to resume"
    return StepError(f"{what}: {reasons}{more}")


def describe_exit(code: int) -> str:
    """Say how a process ended, by its return code."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
    return f"exit code {code}"


# Inside a worker


def become_worker(step: str = "", worker: str = "") -> None:
    """Tie this worker's life to its parent's and send its log to standard error; call it first.

    What the worker prints goes there too: standard output's pipe is for events alone, and no child inherits it.

    step, worker: what its lines say of where they come from, such as "worker 1"
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:  # the parent died before the call
            sys.exit(1)
    # Ctrl-C goes to the whole group; the parent decides, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _events
    _events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(2, 1)
    log_lines.to_standard_error(logging.INFO, step, worker)


def send(event: Event) -> None:
    """Hand an event to the parent. Ends the process if the parent is gone."""
    try:
        events = _events or sys.stdout
        events.write(json.dumps(event) + "\n")
        events.flush()
    except BrokenPipeError:
        os._exit(1)
