"""Imports point down only: the layers of DESIGN section 2, as data, and what importing the package may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import bigupload

PACKAGE = Path(bigupload.__file__).parent

PURE = {
    "errors", "units", "checksums", "planning", "proof", "manifest", "options", "state", "retry", "events",
    "concurrency", "stragglers", "claims", "outcome",
}  # fmt: skip
TOOLS = {"_batch", "_durable", "_private", "ratelimit"}
ADAPTERS = {"source", "journal", "transport", "reading", "stores.*"}
ADAPTER_HELPERS = {
    "_http", "_sockets", "_tls", "_body", "stores._answers", "stores._botocore", "stores._bucket", "stores._presign",
    "stores._service_http",
}  # fmt: skip
ENGINE = {"job", "hashing", "probe", "flights", "sending", "reconcile", "engine", "run"}
WIRING = {"targets", "verifying", "readback", "orphans", "api"}
TOP = {"cli", "cli.*", "service", "service.*", "__main__"}
LAYERS = {
    "pure": PURE,
    "ports": {"ports"},
    "tools": TOOLS,
    "adapter helpers": ADAPTER_HELPERS,
    "adapters": ADAPTERS - ADAPTER_HELPERS,
    "engine": ENGINE,
    "local store": {"local_store"},
    "wiring": WIRING,
    "top": TOP,
    "package": {"", "stores"},  # __init__.py: the first imports lazily, the second nothing
}


@dataclass(frozen=True)
class Rule:
    """What the modules of a layer may import of the package, beside what `why` says."""

    may: set[str]
    why: str


BELOW_ENGINE = {"pure", "ports", "tools"}
RULES = {
    "pure": Rule({"pure"}, "it decides without I/O, so that every decision is tested without I/O"),
    "ports": Rule({"pure"}, "a contract names only what both of its sides know"),
    "tools": Rule({"pure"}, "it knows nothing of uploads"),
    "adapter helpers": Rule(
        {*BELOW_ENGINE, "adapter helpers"}, "it is a piece of an adapter, or what several of them share"
    ),
    "adapters": Rule(
        {*BELOW_ENGINE, "adapter helpers"},
        "one adapter must be replaceable without reading another: what two of them share is a helper's",
    ),
    "engine": Rule({*BELOW_ENGINE, "engine"}, "it reaches the world through its ports, else no fake could stand in"),
    "local store": Rule({"pure"}, "it runs a process of its own, and knows nothing of uploads"),
    "wiring": Rule(
        {*BELOW_ENGINE, "adapters", "engine", "local store", "wiring"}, "it puts adapters and engine together"
    ),
    "top": Rule(
        {*BELOW_ENGINE, "adapter helpers", "adapters", "engine", "local store", "wiring", "top", "package"},
        "a surface may use all that the library has",
    ),
    "package": Rule({"pure", "adapters", "engine", "wiring"}, "its names are those of the library"),
}
EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(module, what it imports): why it may, against its layer's rule."""
CARRYING = {
    "pure": {
        "base64", "binascii", "collections", "dataclasses", "enum", "hashlib", "itertools", "json", "re", "types",
        "typing", "statistics",
        "io",  # BytesIO cuts lines on \n alone
        "pathlib",  # a path as a type
        "awscrt",  # computes CRCs
        "urllib.parse",  # of urllib, this alone does no I/O
    },
    "ports": {"collections", "dataclasses", "typing", "pathlib", "datetime"},
}  # fmt: skip
"""What the purest layers may import from elsewhere. Anything else there does I/O, waits, or knows the time."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> str | None:
    """An exact name goes before a pattern."""
    for layer, members in LAYERS.items():
        if module in members:
            return layer
    parent = module.rpartition(".")[0]
    return next((layer for layer, members in LAYERS.items() if parent and f"{parent}.*" in members), None)


@dataclass(frozen=True)
class Import:
    """`own`: a module of the package, else the dotted name of another's. `line` is for the failure message."""

    own: bool
    name: str
    line: int


def imports_of(path: Path) -> list[Import]:
    """Every import, also in functions, but not those for types alone (`if TYPE_CHECKING`)."""
    found: list[Import] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                add(whole if whole.partition(".")[2] in MODULES else node.module or "", node.lineno)
        for child in ast.iter_child_nodes(node):
            visit(child)

    def add(name: str, line: int) -> None:
        top, _, rest = name.partition(".")
        if top == "bigupload":
            found.append(Import(True, rest, line))
        elif top != "__future__":
            found.append(Import(False, name, line))

    visit(ast.parse(path.read_text()))
    return found


def test_every_module_has_its_layer() -> None:
    homeless = [module for module in MODULES if layer_of(module) is None]
    assert not homeless, f"say in LAYERS where these belong: {homeless}"
    assert set(RULES) == set(LAYERS)


def test_no_layer_names_what_is_not_there() -> None:
    optional = {"service"}
    gone = {m for members in LAYERS.values() for m in members if not m.endswith(".*")} - set(MODULES) - optional
    assert not gone
    assert {module for pair in EXCEPTIONS for module in pair} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    layer = layer_of(module) or ""
    rule = RULES[layer]
    wrong = [
        f"{MODULES[module]}:{imported.line} imports {imported.name} ({layer_of(imported.name)})"
        for imported in imports_of(MODULES[module])
        if imported.own and layer_of(imported.name) not in rule.may and (module, imported.name) not in EXCEPTIONS
    ]
    assert not wrong, f"{module} is of the layer {layer!r}: {rule.why}.\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", [module for module in MODULES if layer_of(module) in CARRYING])
def test_the_purest_import_nothing_that_acts(module: str) -> None:
    allowed = CARRYING[layer_of(module) or ""]
    wrong = [
        f"{MODULES[module]}:{imported.line} imports {imported.name}"
        for imported in imports_of(MODULES[module])
        if not imported.own and not {imported.name, imported.name.partition(".")[0]} & allowed
    ]
    assert not wrong, f"{module} does no I/O, waits for nothing and has no clock: pass it in.\n" + "\n".join(wrong)


def test_the_exceptions_are_still_needed() -> None:
    used = {
        (module, imported.name) for module, path in MODULES.items() for imported in imports_of(path) if imported.own
    }
    assert set(EXCEPTIONS) <= used


def test_no_circles() -> None:
    """Not within a layer either."""
    graph = {
        module: {imported.name for imported in imports_of(path) if imported.own and imported.name} & set(MODULES)
        for module, path in MODULES.items()
        if layer_of(module) not in ("package", "top")
    }
    while graph:
        leaves = {module for module, below in graph.items() if not below & set(graph)}
        assert leaves, f"these import one another: {sorted(graph)}"
        graph = {module: below for module, below in graph.items() if module not in leaves}


def test_the_test_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from __future__ import annotations\n"
        "import os.path\n"
        "from bigupload import errors, events\n"
        "from bigupload.stores import s3\n"
        "from bigupload.stores.s3 import S3Store\n"
        "if TYPE_CHECKING:\n    import aiohttp\nelse:\n    import anyio\n"
        "def f():\n    import bigupload.journal\n"
    )
    assert {(i.own, i.name, i.line) for i in imports_of(file)} == {
        (False, "os.path", 2), (True, "errors", 3), (True, "events", 3), (True, "stores.s3", 4), (True, "stores.s3", 5),
        (False, "anyio", 9), (True, "journal", 11),
    }  # fmt: skip
    assert layer_of("stores._botocore") == "adapter helpers"
    assert layer_of("stores.anything") == "adapters"
    assert layer_of("anything") is None


# -- what starting costs

HEAVY = {"boto3", "botocore", "aiohttp", "awscrt", "rich", "anyio", "asyncio"}


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded at the end of `code`."""
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    done = subprocess.run([sys.executable, "-c", f"{report}\n{code}"], capture_output=True, text=True, check=True)
    modules = set(done.stderr.split())
    assert "bigupload" in modules
    return {module.partition(".")[0] for module in modules} & HEAVY


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import bigupload; dir(bigupload); bigupload.__version__") == set()


def test_names_of_pure_modules_load_nothing_heavy() -> None:
    names = "Algorithm, RetryPolicy, S3Options, Verified, UsageError, UploadStarted"
    assert loaded_by(f"from bigupload import {names}; S3Options(endpoint_url='https://s3.example')") == set()


@pytest.mark.skipif("__main__" not in MODULES, reason="there are no commands yet")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"import runpy, sys; sys.argv[1:] = {arguments!r}; runpy.run_module('bigupload', run_name='__main__')"
    assert loaded_by(code) <= {"asyncio", "anyio"}


def test_the_probe_can_fail() -> None:
    assert "anyio" in loaded_by("import bigupload.ratelimit")


@pytest.mark.parametrize("name", bigupload.__all__)
def test_every_public_name(name: str) -> None:
    assert getattr(bigupload, name) is not None
    assert name in dir(bigupload)


def test_the_public_names_are_told_apart() -> None:
    assert len(set(bigupload.__all__)) == len(bigupload.__all__)
    assert dir(bigupload) == sorted(bigupload.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bigupload.nothing
