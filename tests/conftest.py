"""Shared by all tests: an empty home, a real store for each worker, a small disk, and the list of slow tests."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import hypothesis
import pytest
import pytest_timeout

from bigupload.stores import local_store
from bigupload.stores.local_store import LocalStore
from tests.tools import cases
from tests.tools.directories import session_directory
from tests.tools.mounts import mounted


def pytest_configure(config: pytest.Config) -> None:
    """Load bigupload's own plugin also where the package was installed in place before it had one.

    Bytecode is written even if PYTHONDONTWRITEBYTECODE is set, as in many containers: otherwise each worker compiles
    all test files (18 CPU seconds), and each process that a test starts compiles the package.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not config.pluginmanager.has_plugin("bigupload"):
        config.pluginmanager.import_plugin("bigupload.testing.plugin")
    cases.thorough = config.option.markexpr != "not slow"
    # Without a deadline: a busy machine is slow, and that is no defect.
    hypothesis.settings.register_profile("untimed", deadline=None, max_examples=cases.examples(100))
    hypothesis.settings.load_profile("untimed")
    if cases.thorough:  # a slow file has tests that this plugin makes
        config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: half as many workers again as there are processors, because tests wait for half of their time.

    A run of named files alone needs none: it starts sooner, and prints what the tests print.
    """
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + (processors + 1) // 2


_FAST_TIMEOUT = 120
"""Seconds that a fast test may take: only against a hang. With seven times its load, the longest takes 50."""
_SLOW_AS_A_WHOLE = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow\b", re.MULTILINE)
_SLOW_IN_PART = re.compile("slow|exhaustive|hypothesis|schemathesis")
"""A file without any of these words has no test that is slow or a property."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare the workers the import of a file of which `-m` would leave no test."""
    selected = config.option.markexpr
    if selected not in ("not slow", "slow", "slow or hypothesis") or not re.fullmatch(
        r"test_\w+\.py", collection_path.name
    ):
        return None  # no opinion
    text = collection_path.read_text(encoding="utf-8")
    ignored = _SLOW_AS_A_WHOLE.search(text) if selected == "not slow" else not _SLOW_IN_PART.search(text)
    return True if ignored else None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Spare the garbage collector what an import of all test files makes, of which nearly all stays.

    That is a fifth of the CPU of the collection, which each worker does for itself.
    """
    gc.disable()
    _import_in_turn(session)
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _import_in_turn(session: pytest.Session) -> None:
    """Let the workers of a fresh checkout compile the test files together, where each would compile all of them.

    Each imports another share of the files first and reads what the others have written meanwhile of the rest.
    """
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker is None or not all(Path(argument).is_dir() for argument in session.config.args):
        return
    files = [path for argument in session.config.args for path in sorted(Path(argument).absolute().rglob("test_*.py"))]
    files = [path for path in files if not pytest_ignore_collect(path, session.config)]
    first = len(files) * int(worker.removeprefix("gw")) // workers
    for path in [*files[first:], *files[:first]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # the collection tells of it
            importlib.import_module(".".join(path.relative_to(session.config.rootpath).with_suffix("").parts))


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Spare the workers of the fast suite most of the items that `-m` would deselect."""
    yield
    left_out = ("exhaustive", "slow")
    if metafunc.config.option.markexpr == "not slow" and any(map(metafunc.definition.get_closest_marker, left_out)):
        del metafunc._calls[1:]


@pytest.hookimpl(tryfirst=True)  # before `-m` is applied
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Prepare the items of all tests.

    All variants but the first of a test marked `exhaustive` are slow. What only Linux can pass is skipped elsewhere.
    The time of the others is limited.
    """
    if sys.platform != "linux":
        from tests.platforms import elsewhere

        elsewhere.skip(items, sys.platform)
    seen: set[str] = set()
    for item in items:
        if item.get_closest_marker("exhaustive") is not None:
            name = item.nodeid.partition("[")[0]
            if name in seen:
                item.add_marker("slow")
            seen.add(name)
        if all(item.get_closest_marker(name) is None for name in ("slow", "timeout")):
            item.add_marker(pytest.mark.timeout(_FAST_TIMEOUT))


_LIMIT = pytest.StashKey[Any]()


class Hung(BaseException):
    """A test ran into its time limit.

    pytest-timeout raises an ordinary failure, for which hypothesis tries the example again, without any limit.
    """


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """Raise `Hung` at the time limit, and then every ten seconds: code that is tested may swallow an exception."""
    if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
        return None  # pytest-timeout's own

    def end(*_: object) -> None:
        try:
            pytest_timeout.timeout_sigalrm(item, settings)
        except pytest.fail.Exception as e:
            raise Hung(str(e)) from None

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.stash[_LIMIT] = settings
    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # pytest-timeout calls it
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, 10)
    return True


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Limit the time of what is left of a test that failed, as its fixtures: pytest-timeout has ended its limit."""
    if isinstance(node, pytest.Item) and _LIMIT in node.stash:
        node.ihook.pytest_timeout_set_timer(item=node, settings=node.stash[_LIMIT])


@pytest.fixture(autouse=True, scope="session")
def nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory of the session's own, so that no test reads or writes the user's files."""
    with session_directory(tmp_path_factory, "home") as made, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("XDG_", "BIGUPLOAD_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(made))
        yield made


class NeverRetrieved(logging.Handler):
    """Keeps what asyncio logs of exceptions that nobody asked for: in a program's log, it looks like a crash.

    Those of tornado's timers are Dask's own: they end after their connection is closed, and nobody waits for them.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        is_of_tornado = isinstance(error, TimeoutError) and error.args == ("Timeout",)
        if "was never retrieved" in record.getMessage() and not is_of_tornado:
            self.found.append(self.format(record))


@pytest.fixture(autouse=True, scope="session")
def stores_end_at_once() -> Iterator[None]:
    """A SeaweedFS that is stopped in a test's process is killed soon: it never ends by itself in the three seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_store, "_TERM_SECONDS", 0.1)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_loader() -> Iterator[None]:
    """botocore's descriptions of AWS are read once, and not for each of a thousand clients and sessions.

    Each session looks at the signatures and at the names of 130 handlers, too, for a third of its time.
    """
    with pytest.MonkeyPatch.context() as patch:
        if (session := sys.modules.get("botocore.session")) is not None:  # a test imported it
            hooks = sys.modules["botocore.hooks"]
            look, alias = hooks.accepts_kwargs, hooks.EventAliaser(None)._alias_event_name
            looked = functools.cache(look)
            patch.setattr(session, "create_loader", functools.cache(session.create_loader))
            patch.setattr(hooks, "accepts_kwargs", lambda f: (looked if isinstance(f, FunctionType) else look)(f))
            patch.setattr(hooks.EventAliaser, "_alias_event_name", lambda _, name: alias(name))
        yield


@contextlib.contextmanager
def all_is_retrieved() -> Iterator[None]:
    handler, log = NeverRetrieved(), logging.getLogger("asyncio")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
    assert not handler.found, "\n".join(handler.found)


@pytest.fixture(autouse=True)
def nothing_is_never_retrieved() -> Iterator[None]:
    """Fail the test during which asyncio notices it. The garbage may be of one that ran before in this file."""
    with all_is_retrieved():
        yield


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left() -> Iterator[None]:
    """Collect what the file's tests left, and fail the last one if asyncio has to say something of it.

    What stays is left out of later garbage collections: many tests collect on purpose.
    """
    yield
    with all_is_retrieved():
        gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def weed(bigupload_local_store: LocalStore) -> LocalStore:
    """The SeaweedFS of this process; a folder of tests may make a bucket in it."""
    return bigupload_local_store


@pytest.fixture(autouse=True)
def weed_runs_again(request: pytest.FixtureRequest) -> None:
    """Start SeaweedFS again if it has crashed, so that a crash fails one test and not all that come after it."""
    if "bigupload_local_store" in request.fixturenames:
        directory = request.getfixturevalue("bigupload_local_store").data_dir
        if local_store.running(directory) is None:
            local_store.start(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    with mounted(directory, "64k"):
        yield directory
