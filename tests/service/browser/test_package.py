"""The client as an npm package: what is in it, and that types and documentation agree with the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import bigupload
from tests.tools import npm
from tests.tools.cases import each_case
from tests.tools.node import BROWSER, Call, node_folder

pytestmark = pytest.mark.slow  # guards what is in the package

PACKAGE = BROWSER / "client"
REPOSITORY = Path(__file__).parents[3]
BARE_IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["']([^./"'][^"']*)["']""")
DECLARED = re.compile(r"^export (?:default )?(?:class|function|const) (\w+)", re.MULTILINE)
MODULES = sorted(PACKAGE.glob("*.js"))


def test_the_package_has_the_client_and_nothing_else() -> None:
    told = json.loads(npm.run("pack", "--dry-run", "--json", "--offline", folder=PACKAGE))
    [packed] = told.values() if isinstance(told, dict) else told  # npm 11 and later have a mapping by name
    names = {file["path"] for file in packed["files"]}
    assert names == {path.name for path in PACKAGE.iterdir()}
    assert {"index.js", "index.d.ts", "element.js", "uppy.js", "README.md", "LICENSE", "package.json"} < names
    assert not [name for name in names if "test" in name or name.endswith((".html", ".css"))]
    assert packed["unpackedSize"] < 180_000


def test_it_stays_a_package_after_a_second_install(tmp_path: Path) -> None:
    """Of a folder, npm makes a link with the next installation, which breaks bundlers: it is packed first."""
    (app := tmp_path / "app").mkdir()
    (other := tmp_path / "other").mkdir()
    (app / "package.json").write_text('{"private": true, "type": "module"}')
    (other / "package.json").write_text('{"name": "other", "version": "1.0.0"}')
    offline = ("--offline", "--no-audit", "--no-fund")
    [packed] = npm.run("pack", str(PACKAGE), folder=app).split()
    npm.run("install", *offline, f"./{packed}", folder=app)
    npm.run("install", *offline, str(other), folder=app)
    installed = app / "node_modules" / "bigupload"
    assert (app / "node_modules" / "other").exists()
    assert not installed.is_symlink()
    npm.run("ci", *offline, folder=app)
    assert not installed.is_symlink()
    script = (
        "import('bigupload').then(({ upload }) => import('bigupload/element').then(() => console.log(typeof upload)))"
    )
    node = [str(node_folder() / "node"), "--input-type=module", "--eval", script]
    assert subprocess.run(node, cwd=app, check=True, capture_output=True, text=True).stdout == "function\n"


def test_the_package_is_this_version_and_needs_nothing() -> None:
    told = json.loads((PACKAGE / "package.json").read_text())
    assert (told["name"], told["version"]) == ("bigupload", bigupload.__version__)
    assert "dependencies" not in told
    assert (PACKAGE / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
    for entry in told["exports"].values():
        for path in entry.values() if isinstance(entry, dict) else [entry]:
            assert (PACKAGE / path).is_file(), path


@each_case("module", MODULES)
def test_a_module_imports_only_its_neighbours(module: Path) -> None:
    assert set(BARE_IMPORT.findall(module.read_text())) == ({"@uppy/core"} if module.name == "uppy.js" else set())


def test_what_is_declared_is_exported(run: Call) -> None:
    declared = DECLARED.findall((PACKAGE / "index.d.ts").read_text())
    assert sorted(set(declared)) == run("client/index", "return Object.keys(m).sort();")


@pytest.mark.parametrize("name", ["Upload", "Client"])
def test_a_declared_member_exists(run: Call, name: str) -> None:
    text = (PACKAGE / "index.d.ts").read_text()
    body = re.search(rf"^export class {name} \{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    assert body is not None
    members = set(re.findall(r"^  (?:readonly |get |set )?(\w+)(?=[:(?])", body[1], re.MULTILINE))
    source = """const made = x === "Client" ? new m.Client({ endpoint: "http://127.0.0.1/", storage: false })
      : new m.Upload({}, { file: new File(["x"], "a.png") });
    const names = new Set(Object.keys(made));
    for (const each of Object.getOwnPropertyNames(m[x].prototype)) names.add(each);
    return [...names];"""
    assert members - {"constructor"} <= set(run("client/index", source, name))
