"""What the command-line tools share: their exit codes, and errors in a line."""

from __future__ import annotations

import argparse
import io
import linecache
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from mmengine.config import Config
from mmengine.logging import MMLogger

from densehead.apis.options import OptionAction
from densehead.arguments import error_chain, explain_config_error
from densehead.engine.interrupt import TrainingStopped

PACKAGE = str(Path(__file__).resolve().parents[1])
# The exit code of a run that its input makes impossible; Python's own for a bug is 1
BAD_INPUT = 2
# and of a training whose losses are no longer finite
NOT_FINITE = 3
# Errors that the package raises on purpose
EXPECTED = (ValueError, TypeError, KeyError, FileNotFoundError, ImportError, ConnectionError, FloatingPointError)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that all tools have."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OptionAction,
        metavar="KEY=VALUE",
        help="override keys of the config: model.bbox_head.num_classes=3 classes=\"('cat','dog')\"",
    )
    parser.add_argument(
        "--safe",
        action="store_true",
        help="for configs of strangers: read YAML and JSON only, as plain data, and build only what is registered",
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher")
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help="set by older launchers")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def track(steps: Iterable, description: str) -> Iterable:
    """Return the steps, under a bar that shows how far they are, on a terminal only."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(steps, description, console=console, transient=True, disable=not console.is_terminal)


def run(main: Callable[[], object], *, config: Callable[[], object] = dict, show_traceback: bool = False) -> int:
    """Call ``main`` and return the exit code of the process.

    An error that the package raises on purpose, or that a key of the config caused, is said in a line; its traceback is
    appended to the log file, and shown as well with ``DENSEHEAD_TRACEBACK=1``. Any other error passes through. Where
    nobody reads on what is printed (``| head``), the tool ends without a word.

    Args:
        main: the tool.
        config: returns the config, once it is read; errors are looked up in it.
        show_traceback: whether to show tracebacks.
    """
    _escape_what_cannot_be_printed()
    try:
        main()
        sys.stdout.flush()
    except TrainingStopped as stopped:
        print(f"\n{_how_to_continue(stopped)}", file=sys.stderr)
        return 128 + stopped.signum
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
            return 128 + signal.SIGPIPE
        message = explain(error, config())
        if message is None or show_traceback or os.environ.get("DENSEHEAD_TRACEBACK"):
            raise
        _log_traceback()
        print(f"error: {message}", file=sys.stderr)
        return NOT_FINITE if isinstance(error, FloatingPointError) else BAD_INPUT
    return 0


def explain(error: Exception, config: object = None) -> str | None:
    """Return what is wrong with the input of a run, or None where the error may be a bug.

    Args:
        error: as it left the package.
        config: in which a wrong key is looked up, with its path.
    """
    text = explain_config_error(error, config.to_dict() if isinstance(config, Config) else config)
    if text is not None:
        return text
    for one in error_chain(error):
        if isinstance(one, EXPECTED):
            from_worker = _raised_in_worker(str(one))
            if from_worker is not None:
                return from_worker
            if isinstance(one, FileNotFoundError) or _is_deliberate(one):
                return str(one.args[0] if isinstance(one, KeyError) and one.args else one)
    return None


def _is_deliberate(error: BaseException) -> bool:
    """Tell whether the package raised the error by a ``raise`` of its own."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or not frames[-1].filename.startswith(PACKAGE):
        return False
    return linecache.getline(frames[-1].filename, frames[-1].lineno).lstrip().startswith("raise ")


def _raised_in_worker(text: str) -> str | None:
    """Return the message of a deliberate error out of the traceback that a data-loading process hands over."""
    if "Original Traceback" not in text:
        return None
    files = re.findall(r'^  File "(.+)", line (\d+)', text, re.MULTILINE)
    last = text.rstrip().rpartition("\n")[2]
    if not files or not files[-1][0].startswith(PACKAGE):
        return None
    line = linecache.getline(files[-1][0], int(files[-1][1]))
    return last.partition(": ")[2] if line.lstrip().startswith("raise ") else None


def _how_to_continue(stopped: TrainingStopped) -> str:
    where = f" at {os.path.relpath(stopped.checkpoint)}" if stopped.checkpoint else ""
    return f"{stopped}{where}. The same command with --resume goes on from the last checkpoint."


def _escape_what_cannot_be_printed() -> None:
    """Have names of files and classes that are no valid text, or not in a terminal's letters, printed as escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_unread(stream: TextIO) -> bool:
    """Tell whether nobody reads a stream any more; what is written to it from now on is thrown away then."""
    try:
        asked = select.poll()
        asked.register(stream.fileno(), select.POLLOUT)
    except (AttributeError, OSError):  # of a system without, of a stream that is no file
        return False
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else Python complains when it ends
    return True


def _log_traceback() -> None:
    """Append the traceback of the current error to the log file of the run, if there is one already."""
    file = getattr(MMLogger.get_current_instance(), "_log_file", None)
    if file is not None and os.path.isfile(file):
        with open(file, "a", encoding="utf-8") as log:
            log.write(traceback.format_exc())
