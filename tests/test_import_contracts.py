"""The layers of ARCHITECTURE.md hold, and the contracts in pyproject.toml notice where one does not."""

from __future__ import annotations

import graphlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

pytestmark = pytest.mark.slow  # guards the source, and `.ci/run` checks the contracts themselves, too

REPOSITORY = Path(__file__).parents[1]


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's verdict on the package in `directory`."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(directory)}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


def test_the_contracts_are_kept() -> None:
    verdict = lint(REPOSITORY)
    assert verdict.returncode == 0, verdict.stdout
    assert " 0 broken" in verdict.stdout


TURNED_ROUND = {
    "core.part_plan": "engine.context",  # upwards
    "batch.tree": "engine.context",
    "engine.context": "http.client",  # round the ports
    "engine.retrying": "stores.s3.bucket",  # to a sibling
    "sources.file": "manifests.journal",
    "stores.s3.bucket": "stores.service_client",
    "support.batching": "core.checksums",
    "cli.upload": "api.functions",
    "service.http.app": "cli.options",
    "service.access.keys": "service.uploads.quota",  # to a room above
    "testing.strict_s3.model": "core.checksums",  # the fake, from the uploader
}


def test_imports_that_are_turned_round_break_them(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "bigupload", tmp_path / "bigupload", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    wrong = {
        **{module: f"bigupload.{other}" for module, other in TURNED_ROUND.items()},
        "core.hedging": "time",
        "api.calls": "distributed",
        "stores.s3.operations": "urllib3",
        "stores.s3.signer": "botocore",
        "service.http.handling": "aiohttp",
    }
    for module, other in wrong.items():
        with (tmp_path / "bigupload" / f"{module.replace('.', '/')}.py").open("a") as file:
            file.write(f"\n\ndef _turned_round() -> None:\n    import {other}\n")
    verdict = lint(tmp_path)
    assert verdict.returncode == 1, verdict.stdout + verdict.stderr
    told = " ".join(verdict.stdout.split())
    for module, other in wrong.items():
        assert f"bigupload.{module} -> {other}" in told
    assert " 0 kept" in told, "a contract that none of these breaks has no test"


def imports() -> dict[str, set[str]]:
    """The modules that each module imports, also within functions and for type checkers alone."""
    graph = grimp.build_graph("bigupload", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_circle_of_imports() -> None:
    """Who reads a module needs to read only those below it."""
    found = imports()
    assert len(found) > 200
    graphlib.TopologicalSorter(found).prepare()  # a CycleError names the circle
    found["bigupload.errors"].add("bigupload.api.uploader")
    with pytest.raises(graphlib.CycleError, match=r"bigupload\.errors"):
        graphlib.TopologicalSorter(found).prepare()
