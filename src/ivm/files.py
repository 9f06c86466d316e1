"""Files that are written whole or not at all: under another name first, which is then made theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ivm.errors import OutputError

__all__ = ["UNFINISHED", "whole", "write_bytes", "write_text"]

UNFINISHED = ".ivm-"
"""How the names begin under which files are written; a killed process may leave one behind."""


@contextmanager
def whole(path: str | os.PathLike[str], sync: bool = False) -> Iterator[Path]:
    """A name in the same folder to write to, with the suffix of `path`; becomes `path` when the block ends.

    A block left by an error, or by the user, leaves `path` as it was and nothing beside it.

    Args:
        path: an existing file is replaced.
        sync: see it on the disk first: after a power cut `path` is one of the two files, not an empty one.

    Raises:
        OutputError: the file cannot be written; also for an OSError of the block.
    """
    path = Path(path)
    # A short name: that of `path` may not grow any further. By chance: two containers or machines may write
    # to one folder, and their processes may have one number.
    temporary = path.with_name(f"{UNFINISHED}{os.urandom(8).hex()}{path.suffix}")
    try:
        yield temporary
        if sync:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OutputError:
        raise  # it says already what could not be written
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        with suppress(OSError, ValueError):  # the folder does not exist or the name cannot: nothing is there
            temporary.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes, sync: bool = False) -> None:
    """Write bytes as `whole` says; arguments and errors as there."""
    with whole(path, sync) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str, errors: str = "strict") -> None:
    """Write text as UTF-8, otherwise as `whole` says.

    Args:
        errors: what becomes of characters that UTF-8 cannot hold, as in `str.encode`.
    """
    write_bytes(path, content.encode("utf-8", errors))
