"""Start the processes that share a training, one for each GPU."""

import signal
import socket
from collections.abc import Callable

import torch
from accelerate import PartialState, notebook_launcher
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from patchwork.training.trainer import Interrupted


def launch(function: Callable[..., None], arguments: tuple, n_processes: int) -> None:
    """Call a function that trains, in this process or in several that share the work.

    Each process calls it whole; files are for the main one (:func:`is_main_process`). A signal
    that stops this process reaches them all.

    Args:
        function: calls :func:`.trainer.fit`; nothing may have touched a GPU before.
        arguments: of the function.
        n_processes: 1, or one for each GPU.

    Raises:
        ValueError: as the function raises it, in any of the processes.
        Interrupted: if the processes left with a checkpoint.
        ChildFailedError: if one of several processes failed otherwise.
    """
    if n_processes == 1:
        function(*arguments)
        return
    # The launcher forwards SIGTERM by itself, but not the signal that precedes a time limit.
    previous = signal.signal(signal.SIGUSR1, _forward)
    try:
        notebook_launcher(function, arguments, num_processes=n_processes, use_port=_free_port())
    except SignalException as signalled:
        raise Interrupted(128 + signalled.sigval) from None
    except ChildFailedError as error:
        raise _reason(error) from error
    finally:
        signal.signal(signal.SIGUSR1, previous)


def is_main_process() -> bool:
    """Whether this process writes the files; called first, it also joins the processes."""
    # Left to itself the state takes processes without a GPU for strangers, each of them the main.
    return PartialState(cpu=not torch.cuda.is_available()).is_main_process


def _forward(number: int, _frame: object) -> None:
    raise SignalException(f"got signal {number}", signal.Signals(number))


def _free_port() -> str:
    """Two trainings on one machine must not meet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def _reason(error: ChildFailedError) -> BaseException:
    """What the first process that failed raised, where this process can raise the same."""
    _, failure = error.get_first_failure()
    if failure.exitcode > 128:
        return Interrupted(failure.exitcode)
    kind, _, text = _message(failure).partition(": ")
    return ValueError(text) if kind == "ValueError" else error


def _message(failure: ProcessFailure) -> str:
    message = failure.message
    return message["message"] if isinstance(message, dict) else message
