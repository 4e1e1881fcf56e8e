"""What went wrong, in one line and one exit code.

    0   ok                              4    storage, device, disk or a missing extra
    1   a bug of attnsearch: please report    5    finished without any usable trial
    2   usage, or a space file          130  interrupted
    3   data                            143  terminated

Only exit 1 leaves a trace, in a file that is named; `--debug` shows it for every other error too.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import typer

from attnsearch.core.checks import masked
from attnsearch.core.errors import AttnsearchError, CostError

# Typer's own usage errors; it names their base in no public place, only this subclass of it.
TyperError: type[Exception] = typer.BadParameter.__mro__[2]
assert TyperError.__name__ == "ClickException", "typer has changed the tree of its errors"


# Errors of a file's place or rights, which no line of ours can mend.
OF_THE_MACHINE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EIO,
    errno.EDQUOT,
}


def fail_cleanly(call: Callable[[], object], *, debug: bool) -> int:
    """The exit code of `call`; an error is one line on stderr."""
    try:
        result = call()
        return result if type(result) is int else 0
    except CostError as error:  # of a model; where a user's block is what fails, its line says more
        return _complain(_of_a_plugin(error) or str(error), error.exit_code, debug)
    except AttnsearchError as error:
        return _complain(str(error), error.exit_code, debug)
    except TyperError as error:
        return _complain(_usage(error), 2, debug)
    except KeyboardInterrupt:
        return _complain("interrupted", 130, debug)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = f" on {error.filename}" if error.filename else ""
            return _complain(f"No space left{where}", 4, debug)
        if error.errno in OF_THE_MACHINE and error.filename:
            return _complain(f"{error.filename}: {error.strerror}", 4, debug)
        return _report_bug(error, debug)
    except Exception as error:
        return _complain(theirs, 2, debug) if (theirs := _of_a_plugin(error)) else _report_bug(error, debug)


def _of_a_plugin(error: BaseException) -> str:
    """Words and line of a user's file that an error came from; empty where it is ours."""
    from attnsearch.blocks import plugin, registry

    return plugin.blame(error, registry.plugins())


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        sys.stderr.write(masked(traceback.format_exc()))
    sys.stderr.write(masked(f"error: {message}\n"))
    return code


def _usage(error: Any) -> str:
    """Typer's sentence, and where to read on."""
    context = getattr(error, "ctx", None)
    hint = f"\nTry '{context.command_path} --help'" if context is not None else ""
    return f"{error.format_message().rstrip('.')}{hint}"


def _report_bug(error: BaseException, debug: bool) -> int:
    handle, path = tempfile.mkstemp(prefix="attnsearch-error-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(masked(f"attnsearch {' '.join(sys.argv[1:])}\n\n{traceback.format_exc()}"))
    first_line = f"{type(error).__name__}: {error}".splitlines()[0]
    message = f"{first_line}\nThis is a bug in attnsearch, not your mistake; please report it with {path}"
    return _complain(message, 1, debug)
