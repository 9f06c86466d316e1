"""The house rules that a reader can rely on: tiers, public names, light imports, a test for every module."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ivm"
MODULES = sorted(SOURCE.rglob("*.py"))

# A module imports lower tiers or its own folder, never sideways or up.
TIERS = {
    "errors": 0,
    "files": 0.5,  # pictures and all later tiers write with it
    "types": 1,
    "images": 1,
    "render": 2,
    "metrics": 2,
    "tiles": 2,
    "models": 3,
    "data": 3,
    "masker": 4,
    "training": 5,
    "annotation": 5,
    "lmm": 5,
    "robot": 5,
    "server": 6,
    "evaluation": 6,
    "jobs": 6,
    "demo": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 8,  # only lends out the names of the others
}
# Files that one module was split into live in its room: part -> room.
PARTS = {
    "blending": "render",
    "endpoint": "lmm",
    "geometry": "render",
    "annotation_cli": "cli",
    "data_cli": "cli",
    "eval_cli": "cli",
    "progress": "cli",
    "training_cli": "cli",
    "lmm_cli": "cli",
    "model_cli": "cli",
    "robot_cli": "cli",
    "server_cli": "cli",
}

# What `pip install ivm` brings. Everything else third-party belongs to an extra and is imported inside the
# function that needs it, through ivm.errors.require.
CORE = {"numpy", "PIL", "onnxruntime", "cv2", "pycocotools", "tokenizers", "typer", "click", "rich"}
# Folders whose modules are torch code from the first line to the last may import it at their top ...
TORCH = {"torch", "transformers", "safetensors", "peft", "accelerate"}
TORCH_FOLDERS = {"models", "training", "robot"}
# (and the server is FastAPI's from the first line to the last)
SERVER = {"fastapi", "starlette", "pydantic", "httpx"}
# ... but nothing that these modules reach at their top, because the core works without torch.
CORE_MODULES = ["ivm", "ivm.cli", "ivm.masker", "ivm.render", "ivm.metrics", "ivm.images", "ivm.models.onnx"]

MAX_LINES = 450  # "a new file past about 400 lines or at a second owner, not before"

HOUSE_TESTS = {"test_architecture.py", "test_vocabulary.py", "test_readme.py", "test_public.py"}
TESTS_OF_INIT = "test_public.py"


def name_of(path: Path) -> str:
    """Dotted name of a source file: src/ivm/data/scene.py -> "ivm.data.scene"."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The file or folder of src/ivm that a module lives in: "ivm.data.scene" -> "data"."""
    parts = module.split(".")
    room = parts[1] if len(parts) > 1 else "__init__"
    return PARTS.get(room, room)


def imports(tree: ast.AST, package: str, top_only: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted module) of the imports in `tree`; with `top_only` only those run at import."""
    nodes = top_level(tree) if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*stem, base]).rstrip(".")
            for alias in node.names:
                dotted = f"{base}.{alias.name}"
                if dotted == "ivm.__version__":
                    continue  # belongs to nobody's tier
                yield node.lineno, dotted if is_module(dotted) else base


def is_module(dotted: str) -> bool:
    path = SOURCE.parent.joinpath(*dotted.split("."))
    return dotted.startswith("ivm") and (path.with_suffix(".py").exists() or (path / "__init__.py").exists())


def top_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """Every statement that runs when the module is imported: not function bodies, not `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from top_level(node)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def package_of(path: Path) -> str:
    return name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tier_faults(path: Path, tree: ast.Module) -> list[str]:
    own = room_of(name_of(path))
    faults = []
    if own not in TIERS:
        return [f"{relative(path)}: {own} has no tier; give it one in DESIGN and in this test"]
    for line, module in imports(tree, package_of(path), top_only=False):
        if module != "ivm" and not module.startswith("ivm."):
            continue
        other = room_of(module)
        lower = TIERS.get(other, 99) < TIERS[own]
        if other != own and not lower:
            faults.append(
                f"{relative(path)}:{line}: {own} may not import {module}: it is not of a lower tier"
            )
    return faults


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_import_lower_tiers_or_their_own_folder(path: Path) -> None:
    assert tier_faults(path, parse(path)) == []


def test_the_tier_rule_sees_a_fault() -> None:
    upward = ast.parse("from ivm.cli import main")
    sideways = ast.parse("def f():\n    from ..training import loop")
    assert tier_faults(SOURCE / "render.py", upward)
    assert tier_faults(SOURCE / "robot" / "policy.py", sideways)
    assert not tier_faults(SOURCE / "models" / "onnx.py", ast.parse("from . import config\nimport ivm.types"))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_have_a_docstring_and_postponed_annotations_and_a_readable_length(path: Path) -> None:
    tree, lines = parse(path), len(path.read_text(encoding="utf-8").splitlines())
    assert ast.get_docstring(tree), f"{relative(path)} needs a docstring that says what it owns"
    if any(not isinstance(node, ast.Expr) for node in tree.body):
        names = [
            a.name
            for n in tree.body
            if isinstance(n, ast.ImportFrom) and n.module == "__future__"
            for a in n.names
        ]
        assert "annotations" in names, f"{relative(path)} needs `from __future__ import annotations`"
    assert lines <= MAX_LINES, f"{relative(path)} has {lines} lines: split it by owner"


def bound_names(tree: ast.Module) -> set[str]:
    """Every name that the module's own level binds."""
    bound = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        else:
            parts = list(ast.walk(node))
            bound |= {
                name.id for name in parts if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            }
            bound |= {
                (name.asname or name.name).split(".")[0] for name in parts if isinstance(name, ast.alias)
            }
    return bound


def public_names(tree: ast.Module) -> list[str] | None:
    """The literal `__all__` of a module, or None."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


def sort_key(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order that ruff keeps, too."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_public_names_are_listed_sorted_and_true(path: Path) -> None:
    tree = parse(path)
    if all(isinstance(node, ast.Expr) for node in tree.body):
        return  # a docstring alone
    names = public_names(tree)
    assert names is not None, f"{relative(path)} needs a literal __all__"
    assert names == sorted(set(names), key=sort_key), (
        f"{relative(path)}: __all__ is not sorted or has doubles"
    )
    assert set(names) <= bound_names(tree), f"{relative(path)}: __all__ names what is not there"
    functions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = {
        node.name
        for node in tree.body
        if isinstance(node, functions)
        and not node.name.startswith("_")
        # A command is called through its app, not by its name.
        and not any(re.search(r"\.(command|callback)\(", ast.unparse(d)) for d in node.decorator_list)
    }
    unlisted = sorted(public - set(names))
    assert not unlisted, f"{relative(path)}: list in __all__ or call with a leading underscore: {unlisted}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_private_names_stay_in_their_module(path: Path) -> None:
    taken = [
        f"{relative(path)}:{node.lineno}: {alias.name} of {node.module}"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ivm")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert taken == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_optional_packages_are_imported_where_they_are_used(path: Path) -> None:
    allowed = set(sys.stdlib_module_names) | CORE | {"ivm"}
    if path.parent != SOURCE and room_of(name_of(path)) in TORCH_FOLDERS:
        allowed |= TORCH
    if room_of(name_of(path)) == "server":
        allowed |= SERVER
    faults = [
        f"{relative(path)}:{line}: {module} is not in the core: import it where it is used, by errors.require"
        for line, module in imports(parse(path), package_of(path), top_only=True)
        if module.split(".")[0] not in allowed
    ]
    assert faults == []


def test_the_core_reaches_no_torch_module() -> None:
    by_name = {name_of(path): path for path in MODULES}
    waiting, seen = [name for name in CORE_MODULES if name in by_name], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        for line, module in imports(parse(by_name[name]), package_of(by_name[name]), top_only=True):
            assert module.split(".")[0] not in TORCH, (
                f"{relative(by_name[name])}:{line} loads {module} in the core"
            )
            # Importing a.b.c runs a and a.b first.
            waiting += [module.rsplit(".", i)[0] for i in range(module.count(".") + 1)]
    assert "ivm.errors" in seen


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in sys.modules after `statement` in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


def test_import_ivm_is_light() -> None:
    heavy = TORCH | {
        "onnxruntime",
        "cv2",
        "numpy",
        "PIL",
        "tokenizers",
        "mujoco",
        "webdataset",
        "matplotlib",
        "onnx",
    }
    assert not loaded_by("import ivm") & heavy


@pytest.mark.skipif(not (SOURCE / "cli.py").exists(), reason="the command line is not written yet")
def test_the_command_line_starts_without_a_model_runtime() -> None:
    assert not loaded_by("import ivm.cli") & (
        TORCH | {"onnxruntime", "mujoco", "webdataset", "matplotlib", "onnx"}
    )


def test_lazy_names_are_there() -> None:
    ivm = importlib.import_module("ivm")
    for name in ivm.__all__:
        assert getattr(ivm, name) is not None
    assert set(ivm.__all__) <= set(dir(ivm))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ivm.no_such_name


def has_code(tree: ast.Module) -> bool:
    """Whether a module has behaviour to test: a function, or a class with one."""
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def test_every_module_has_its_tests() -> None:
    missing = []
    for path in MODULES:
        if path.name in {"__init__.py", "__main__.py"} or not has_code(parse(path)):
            continue
        home = path.relative_to(SOURCE).with_name(f"test_{path.name}")
        if not (ROOT / "tests" / home).exists():
            missing.append(f"{relative(path)} -> tests/{home}")
    assert missing == []


def test_every_test_file_belongs_to_a_module() -> None:
    strays = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        inside = path.relative_to(ROOT / "tests")
        owner = inside.with_name(path.name.removeprefix("test_"))
        home = ROOT / owner if inside.parts[0] == "runs" else SOURCE / owner
        if not home.exists() and str(inside) not in HOUSE_TESTS | {TESTS_OF_INIT}:
            strays.append(str(inside))
    assert strays == []


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == project["version"]
    assert re.search(r"^## (\d\S*)", changes, re.MULTILINE)[1] == project["version"]
    assert importlib.import_module("ivm").__version__ == project["version"]
