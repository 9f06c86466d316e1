"""What `import ivm` offers: its names, and that using one leaves the others in place."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ivm


def run(code: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_each_public_name_loads_alone() -> None:
    """In an interpreter of its own each, forked for speed: no name may depend on another's import."""
    code = """
import os, ivm
for name in ivm.__all__:
    child = os.fork()
    if not child:
        try:
            ok = getattr(ivm, name) is not None
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0, name
print("all")
"""
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("needs os.fork")
    assert run(code) == "all\n"


@pytest.mark.parametrize(
    "first",
    [
        "import ivm.render",
        "from ivm.render import MODES",
        "import ivm.masker, ivm.render",
        "ivm.render",
        "ivm.Rendered",
    ],
)
def test_render_stays_the_function_whatever_is_imported_first(first: str) -> None:
    run(
        f"import ivm\n{first}\n"
        "assert callable(ivm.render), ivm.render\n"
        "from ivm import render\n"
        "assert render is ivm.render\n"
        "from ivm.render import MODES, Rendered\n"
        "assert ivm.MODES is MODES and ivm.Rendered is Rendered"
    )


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'ivm' has no attribute 'lod'"):
        _ = ivm.lod


def test_type_checkers_see_the_same_names() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(ivm.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: node.module for node in imports for alias in node.names}
    assert {*homes, "__version__"} == set(ivm.__all__)
    assert homes == ivm._MODULE_OF
