"""Run scripts from a process that has already imported the large libraries.

Importing torch, timm and their like takes 3 to 15 s of CPU, more than the work of most jobs. A
server imports them once; for each script it forks itself, and the copy runs the script with the
arguments, environment, folder and streams of its caller. Only `LIBRARIES` are shared: a script
reads the project's own modules anew. A caller waits for its script, ends with its status, and
ends the script when it is ended itself. Without the server the caller becomes plain Python.

The file is both sides, so its first imports are small. Linux only, for `os.pidfd_open`.
"""

import array
import json
import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

# Imported in this order; numpy's threads are limited in each copy.
LIBRARIES = (
    "threadpoolctl",
    "h5py",
    "hdf5plugin",
    "scipy.stats",
    "pandas",
    "sklearn.ensemble",
    "seaborn",
    "torch",
    "timm",
    "peft",
)
_STREAMS = (0, 1, 2)


def start(
    folder: str | Path, libraries: Sequence[str] = LIBRARIES
) -> tuple[Path, "subprocess.Popen"]:
    """Start a server that lives as long as this process, and make a Python that asks it.

    Args:
        folder: of this user alone, on a local file system; removed at the server's end.
        libraries: what the server imports before it takes scripts.

    Returns:
        an executable that runs ``<executable> script.py`` in a copy of the server, and any other
        arguments by plain Python; and the server.
    """
    import shlex
    import subprocess

    python, client = Path(folder) / "python", Path(folder) / "socket"
    here = str(Path(__file__).resolve())
    command = shlex.join([sys.executable, "-IS", here, str(client)])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o700)
    server = subprocess.Popen(
        [sys.executable, here, "--serve", client, *libraries], stdin=subprocess.PIPE
    )
    return python, server


def serve(path: str, *libraries: str) -> None:
    """Import the libraries, then fork for each connection until standard input ends."""
    import gc
    import pkgutil

    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in libraries:
        pkgutil.resolve_name(name)
    gc.freeze()  # a collection in a copy would touch, and so double, all of their memory
    # Copies that ended are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        while True:
            ready, _, _ = select.select([listener, sys.stdin.fileno()], [], [])
            if listener not in ready:
                break
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _watch(connection, interrupt)
            connection.close()
    shutil.rmtree(Path(path).parent, ignore_errors=True)
    os._exit(0)


def _watch(connection: socket.socket, interrupt: Any) -> None:
    """Fork the script's process, answer with its status, or end it with its caller."""
    request, streams = _receive(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        signal.signal(signal.SIGINT, interrupt)
        for number, stream in zip(_STREAMS, streams, strict=True):
            os.dup2(stream, number)
            os.close(stream)
        _run(**request)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([connection.fileno(), ended], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGTERM)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended in ready:
        connection.sendall(status.to_bytes(2, "big", signed=True))
    os._exit(0)


def _run(script: str, folder: str, environment: dict[str, str]) -> None:
    import atexit
    import runpy
    import threading
    import traceback

    import threadpoolctl

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = [script], str(Path(script).parent)
    # Read by the libraries when they are loaded, which was before.
    if threads := int(environment.get("OMP_NUM_THREADS", 0)):
        threadpoolctl.threadpool_limits(threads)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
    status = 1
    try:
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, int) or end.code is None:
            status = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except BaseException as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != script:
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace or error.__traceback__))
    # Not through the interpreter's end, which takes all libraries apart first.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _receive(connection: socket.socket) -> tuple[dict, list[int]]:
    """What `_ask` sent: length of the text and the three streams, then the text."""
    head, streams, _, _ = socket.recv_fds(connection, 8, len(_STREAMS))
    left, text = int.from_bytes(head, "big"), bytearray()
    while left > len(text):
        text += connection.recv(left - len(text))
    return json.loads(text), streams


def _ask(connection: socket.socket, script: str) -> int:
    request = {"script": script, "folder": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(request).encode()
    streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", _STREAMS))]
    connection.sendmsg([len(text).to_bytes(8, "big")], streams)
    connection.sendall(text)
    status = connection.recv(2)
    return int.from_bytes(status, "big", signed=True) if len(status) == 2 else 1


def main(path: str, *arguments: str) -> None:
    """Run a script in a copy of the server behind this socket; everything else by Python."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            if len(arguments) != 1 or not arguments[0].endswith(".py"):
                raise FileNotFoundError
            connection.connect(path)
        except OSError:
            os.execv(sys.executable, [sys.executable, *arguments])
        status = _ask(connection, arguments[0])
    if status < 0:
        # Ended by a signal: end by the same one.
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
