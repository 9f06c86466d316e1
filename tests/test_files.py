"""Files are written whole or not at all, and nothing is left beside them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ivm.errors import OutputError
from ivm.files import UNFINISHED, whole, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_all_of_it_is_there(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    with whole(path, sync=True) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"  # numpy and matplotlib go by it
        assert temporary.name.startswith(UNFINISHED)
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_a_block_that_fails_changes_nothing(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with whole(path) as temporary:
            temporary.write_text("half")
            raise error("in the middle")

    with pytest.raises(OutputError if error is OSError else error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_cannot_be_written_is_named_once(tmp_path):
    with pytest.raises(OutputError, match=r"'.*absent/a\.txt': No such file") as caught:
        write_text(tmp_path / "absent" / "a.txt", "x")
    assert str(caught.value).count("cannot write") == 1
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_bytes(tmp_path / "folder", b"x")
    assert names(tmp_path) == ["folder"]
    with pytest.raises(OutputError) as caught, whole(tmp_path / "outer"):
        write_text(tmp_path / "absent" / "inner", "x")
    assert "inner" in str(caught.value)
    assert "outer" not in str(caught.value)


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    write_text(path, "x")
    assert path.read_text() == "x"


def test_threads_may_write_one_path(tmp_path):
    path = tmp_path / "a.txt"
    contents = [str(k) * 10_000 for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_text(path, content), contents * 5))
    assert path.read_text() in contents
    assert names(tmp_path) == ["a.txt"]


def test_processes_of_one_number_may_write_one_folder(tmp_path):
    # As the first processes of two containers.
    code = (
        "import os, sys; from pathlib import Path; from ivm.files import whole; os.getpid = lambda: 1\n"
        "with whole(Path(sys.argv[1])) as temporary: print(temporary)"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code + "; temporary.touch()", str(tmp_path / "a.txt")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert printed[0] != printed[1]


def test_text_is_utf8_and_half_a_surrogate_pair_as_asked(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    write_text(path, "\ud800", errors="backslashreplace")
    assert path.read_text() == "\\ud800"
    assert names(tmp_path) == ["a.txt"]
