"""The programs of docs/examples, as they stand, and what they print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bigupload.stores.local_store import LocalStore

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
Run = Callable[..., str]

pytestmark = pytest.mark.slow


@pytest.fixture
def run(weed: LocalStore, tmp_path: Path) -> Run:
    """Runs a program against the session's store, with warnings as errors, and returns what it prints."""
    environment = os.environ | {
        "BIGUPLOAD_LOCAL_STORE_DIR": str(weed.data_dir),
        "BIGUPLOAD_STATE_DIR": str(tmp_path / "state"),
        "PYTHONWARNINGS": "error",
        "TMPDIR": str(tmp_path),
    }

    def run_program(name: str, *arguments: str) -> str:
        # A shell between: a process has the memory of the one that it was forked from among its most.
        command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, EXAMPLES / name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return run_program


def test_a_fastapi_application(run: Run) -> None:
    pytest.importorskip("fastapi")
    out = run("fastapi_load.py", "0.5")
    assert re.findall(r"endpoint: (\d+) done", out) == ["40", "40"]
    assert "the application's own sync endpoint meanwhile: " in out


def test_a_django_form(run: Run) -> None:
    """What a client that disconnects has sent is kept, and is no object."""
    pytest.importorskip("django")
    assert run("django_form.py") == (
        "a form with 30 MB: full-object\n"
        "a client that disconnects: HTTP/1.0 400 Bad Request\n"
        "its upload: uploading\n"
    )  # fmt: skip


def test_a_django_project_with_big_files(run: Run) -> None:
    """The field believes no form, and the storage proves what it saves."""
    pytest.importorskip("storages")
    assert run("django_media.py") == (
        "the URL of another user's file: 422\n"
        "media/films/~ada/….mp4 has 20,000,048 bytes, and the poster is posters/poster.jpg\n"
    )  # fmt: skip


def test_what_a_library_writes_into_a_file(run: Run) -> None:
    """What it had written when it raised is no object."""
    assert run("written_file.py") == (
        "zip: full-object\ncsv: full-object\nthe rows have ended too early\nnothing was committed\n"
    )


def test_a_mounted_service(run: Run) -> None:
    assert run("mounted_service.py") == "media/ada: 200\n"


def test_a_fastapi_application_with_the_media_service(run: Run) -> None:
    pytest.importorskip("fastapi")
    assert run("fastapi_media.py") == "/media/my-app/~ada: full-object\n"


def test_a_streamed_request(run: Run) -> None:
    pytest.importorskip("fastapi")
    out = run("streamed_request.py", "300")
    (peak,) = re.findall(r"^300 MiB in .* s: full-object, (\d+) MB resident at most$", out, re.MULTILINE)
    assert int(peak) < 250  # the client, the server and FastAPI are in it
    (there, whole) = re.findall(r"^a client that disconnected: uploading, (\d+) of (\d+) parts", out, re.MULTILINE)[0]
    assert 0 < int(there) < int(whole)
    (resumed,) = re.findall(r"^the same body again: full-object, (\d+) of 10 parts were there$", out, re.MULTILINE)
    assert int(resumed) >= int(there)


def test_pools_of_processes(run: Run) -> None:
    """Each result and each error arrives, whichever pool it is."""
    found = re.findall(r"^  (\w+): ([\w-]+)", run("process_pool.py"), re.MULTILINE)
    each = [
        ("sound", "full-object"),
        ("growing", "SourceChanged"),
        ("unreachable", "StoreUnreachable"),
        ("missing", "SourceNotFound"),
    ]
    assert found == each * 2


def test_the_end_of_a_program_after_a_cancel(run: Run) -> None:
    """The store takes longer than the test may, so that a program which waits for it fails."""
    ended = re.findall(r"^cancelled during (\w+): .* status 0$", run("process_exit.py", "3600"), re.MULTILINE)
    assert ended == ["HeadObject", "CreateMultipartUpload", "ListParts", "CompleteMultipartUpload"]


def test_credentials_that_expire(run: Run) -> None:
    """How often they are renewed depends on the machine; at least once, as they live for a quarter of the upload."""
    (issued,) = re.findall(
        r"^uploaded for [\d.]+ s with (\d+) credentials .*: full-object$", run("async_credentials.py")
    )
    assert int(issued) > 1


def test_a_cancel_and_a_resume(run: Run) -> None:
    out = run("cancel_and_resume.py")
    (recorded,) = re.findall(r"^cancelled: (\d+) of 12 parts are recorded$", out, re.MULTILINE)
    (there, sent) = re.findall(r"^resumed: (\d+) parts were there, (\d+) were sent$", out, re.MULTILINE)[0]
    assert 0 < int(recorded) <= int(there)
    assert int(there) + int(sent) == 12
    assert out.endswith("proved: full-object\n")


def test_a_small_file_beside_big_ones(run: Run) -> None:
    (before,) = re.findall(
        r"^100 KB that arrive behind them: .* s, (\d+) of the 50", run("small_beside_big.py"), re.MULTILINE
    )
    assert int(before) < 40


def test_more_uploads_than_descriptors(run: Run) -> None:
    assert re.fullmatch(r"600 of 600 uploaded in \d+ s\n", run("many_at_once.py"))


def test_trio(run: Run) -> None:
    pytest.importorskip("trio")
    out = run("trio_program.py")
    assert re.fullmatch(r"in trio's loop: bigupload needs .* in a thread\nin a thread: full-object\n", out)


def test_progress_bars(run: Run) -> None:
    rows = re.findall(r"^take-(\d).mov .* \d+.0/\d+.0 MB .* full-object *$", run("progress_bar.py"), re.MULTILINE)
    assert rows == ["1", "2", "3"]


def test_the_output_of_a_command(run: Run) -> None:
    assert run("command_output.py") == "tar: full-object\nsh failed with status 3: SourceUnreadable\n"


def test_a_recording(run: Run) -> None:
    assert run("recording.py") == "20 blocks: full-object\n"


def test_a_dask_cluster(run: Run) -> None:
    pytest.importorskip("distributed")
    assert run("dask_cluster.py") == "12 parts by 2 workers: full-object\n"


def test_the_notebook(weed: LocalStore, tmp_path: Path) -> None:
    """It is executed as it stands; its widget ends full, and its rows say what was proved."""
    pytest.importorskip("ipykernel")
    executed = tmp_path / "executed.ipynb"
    run = (
        f"import nbclient, nbformat; notebook = nbformat.read({str(EXAMPLES / 'notebook.ipynb')!r}, 4); "
        f"nbclient.NotebookClient(notebook, timeout=200).execute(); nbformat.write(notebook, {str(executed)!r})"
    )
    own = {"BIGUPLOAD_LOCAL_STORE_DIR": str(weed.data_dir), "BIGUPLOAD_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", run], env=os.environ | own, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    notebook = json.loads(executed.read_bytes())
    widgets = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    [bar] = [each["state"] for each in widgets if each["model_name"] == "FloatProgressModel"]
    assert (bar["value"], bar["max"], bar["bar_style"]) == (40_000_000, 40_000_000, "success")
    shown = [out["data"]["text/plain"] for out in notebook["cells"][5]["outputs"] if "text/html" in out["data"]]
    rows = [row for text in shown if (row := "".join(text).strip())]
    assert sorted(row[:6] for row in rows) == ["take-0", "take-1", "take-2"]
    assert all("proved: full-object" in row for row in rows)
    assert notebook["cells"][7]["outputs"][0]["text"] == [f"{['completed'] * 4}\n"]
