"""A pytest plugin for the tests of boto3 and s3transfer: their uploads go through `bigupload.adapters.boto3`.

`-p tests.adapters.foreign` installs the adapter in each client that is made. What those tests call (`TransferManager`,
two classes named `S3Transfer`) calls the client's methods. At the end it prints what boto3 did by itself.
"""

from __future__ import annotations

import collections
import concurrent.futures
import threading
import warnings
from functools import partial
from types import SimpleNamespace
from typing import Any

import boto3.s3.inject
import botocore.session
import pytest
import s3transfer
import s3transfer.manager

from bigupload.adapters.boto3 import NotTakenOver, install

_THEIRS = s3transfer.manager.TransferManager.upload
_inside = threading.local()
"""Whether the adapter runs in this thread: then `TransferManager` is boto3's own."""
taken: collections.Counter[str] = collections.Counter()


def _call(method: Any, *arguments: Any, **named: Any) -> Any:
    _inside.runs = True
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = method(*arguments, **named)
    finally:
        _inside.runs = False
    for each in caught:
        if issubclass(each.category, NotTakenOver):
            taken[f"left to boto3: {each.message}"] += 1
            return result
    taken["made by bigupload"] += 1
    return result


def _create_client(self: Any, service: str, *arguments: Any, _create: Any, **named: Any) -> Any:
    client = _create(self, service, *arguments, **named)
    if service == "s3":
        for name in ("upload_file", "upload_fileobj"):
            if not hasattr(client, name):  # a client of botocore's
                setattr(client, name, partial(getattr(boto3.s3.inject, name), client))
        for name in ("delete_public_access_block", "put_bucket_encryption"):  # as AWS has them
            setattr(client, name, lambda **_: None)
        install(client)
        for name in ("upload_file", "upload_fileobj"):
            setattr(client, name, partial(_call, getattr(client, name)))
    return client


class _Future:
    """What `TransferManager.upload` returns, as far as a caller sees it."""

    def __init__(self, work: Any, call: Any) -> None:
        self.meta = SimpleNamespace(call_args=SimpleNamespace(**call))
        self._future: concurrent.futures.Future[None] = concurrent.futures.Future()

        def run() -> None:
            try:
                self._future.set_result(work())
            except BaseException as e:
                self._future.set_exception(e)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def result(self) -> None:
        self._future.result()


def _upload(self: Any, fileobj: Any, bucket: str, key: str, extra_args: Any = None, subscribers: Any = None) -> Any:
    if getattr(_inside, "runs", False):
        return _THEIRS(self, fileobj, bucket, key, extra_args, subscribers)
    self._validate_all_known_args(extra_args or {}, self.ALLOWED_UPLOAD_ARGS)
    call = {"fileobj": fileobj, "bucket": bucket, "key": key, "extra_args": extra_args or {}}

    def report(count: int) -> None:
        for each in subscribers or ():
            if hasattr(each, "on_progress"):
                each.on_progress(future=future, bytes_transferred=count)

    method = self.client.upload_file if isinstance(fileobj, str) else self.client.upload_fileobj
    config = None if type(self.config) is s3transfer.manager.TransferConfig else self.config
    future = _Future(partial(method, fileobj, bucket, key, ExtraArgs=extra_args, Callback=report, Config=config), call)
    return future


def _upload_file(self: Any, filename: str, bucket: str, key: str, callback: Any = None, extra_args: Any = None) -> None:
    self._client.upload_file(filename, bucket, key, ExtraArgs=extra_args, Callback=callback)


def pytest_configure() -> None:
    create = botocore.session.Session.create_client
    botocore.session.Session.create_client = lambda self, *a, **k: _create_client(self, *a, _create=create, **k)
    s3transfer.manager.TransferManager.upload = _upload
    s3transfer.S3Transfer.upload_file = _upload_file


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, count in sorted(taken.items()):
        terminalreporter.write_line(f"uploads {what}: {count}")
