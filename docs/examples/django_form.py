"""A Django project of one file, whose form takes big files: they go into S3 while they arrive, not onto the disk.

`python django_form.py` serves it by WSGI with the local store, sends the form as a browser does, disconnects in the
middle of another one, and ends. Under ASGI, Django writes a whole body to the disk before code of yours sees it: mount
the media service there, to which browsers send files by themselves (docs/how-to/web-app.md).
"""

# mypy: disable-error-code="import-untyped,misc"
# Django has no types of its own.

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from wsgiref import simple_server

import django.conf
import httpx
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.urls import path

import bigupload

LOCAL = bigupload.S3Options(local=True)
THREADS = ThreadPoolExecutor(32, "upload")
FORM = b'<form method="post" enctype="multipart/form-data"><input type="file" name="film"><button>Send</button></form>'


class IntoS3(FileUploadHandler):
    """Uploads a form's file while Django reads it. `request.FILES` has its name and its `result`."""

    chunk_size = 1 << 20

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        reader, writer = os.pipe()  # the client is slowed down to the store's speed
        self.pipe, self.is_whole = os.fdopen(writer, "wb", 0), False
        self.upload: Future[bigupload.UploadResult] = THREADS.submit(self.send, reader)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        try:
            self.pipe.write(raw_data)
        except BrokenPipeError:
            raise StopUpload(connection_reset=True) from self.upload.exception()

    def file_complete(self, file_size: int) -> UploadedFile:
        self.is_whole = True
        self.pipe.close()
        file = UploadedFile(name=self.file_name, size=file_size)
        file.result = self.upload.result()
        return file

    def send(self, reader: int) -> bigupload.UploadResult:
        """Upload what comes through the pipe, in a thread of its own."""
        with contextlib.closing(self.blocks(reader)) as blocks:
            return bigupload.upload_sync(blocks, to=f"s3://bigupload/django/{self.file_name}", s3=LOCAL)

    def blocks(self, reader: int) -> Generator[bytes, None, None]:
        with os.fdopen(reader, "rb", 0) as pipe:
            while block := pipe.read(self.chunk_size):
                yield block
        if not self.is_whole:  # a pipe does not say why it ends: nothing is completed
            raise ConnectionError("the client has gone")


def send_film(request: HttpRequest) -> HttpResponse:
    """Show the form, or take it. With `CsrfViewMiddleware`, see Django on "Modifying upload handlers on the fly"."""
    if request.method != "POST":
        return HttpResponse(FORM)
    handler = IntoS3(request)
    request.upload_handlers = [handler]
    try:
        result = request.FILES["film"].result
    except UnreadablePostError:  # nobody reads this response
        handler.pipe.close()
        return HttpResponse(status=400)
    except bigupload.BigUploadError as error:
        return JsonResponse({"detail": str(error)}, status=503 if error.resumable else 502)
    return JsonResponse({"url": result.url, "verified": result.verified})


class WholeBody(io.RawIOBase):
    """A request's body that fails where the client has gone. WSGI lets it end as if it were whole."""

    def __init__(self, body: Any, length: int) -> None:
        self.body, self.left = body, length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self.body.read(min(len(buffer), self.left))
        self.left -= len(block)
        if not block and self.left:
            raise ConnectionError("the client has gone")
        buffer[: len(block)] = block
        return len(block)


def whole_bodies(application: Callable[..., Any]) -> Callable[..., Any]:
    """Return a WSGI application whose requests have a `WholeBody`."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Any:
        body = WholeBody(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BufferedReader(body)
        return application(environ, start_response)

    return wrapped


django.conf.settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=(path("", send_film),))
application = whole_bodies(get_wsgi_application())


# What follows is no part of the project: a server and its clients.


class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """A thread for each request."""


class Quiet(simple_server.WSGIRequestHandler):
    """Without a line for each request."""

    def log_message(self, *args: Any) -> None:
        pass


def disconnect(port: int) -> None:
    """Send the beginning of a form, and close the connection. Returns when the server has noticed."""
    head = (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="film"; filename="half.mov"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + bytes(10_000_000))
        connection.shutdown(socket.SHUT_WR)
        print("a client that disconnects:", connection.recv(100).split(b"\r\n")[0].decode())


def main() -> None:
    server = simple_server.make_server("127.0.0.1", 0, application, Server, Quiet)
    threading.Thread(target=server.serve_forever).start()
    try:
        film = {"film": ("film.mov", bytes(30_000_000))}
        answer = httpx.post(f"http://127.0.0.1:{server.server_port}", files=film, timeout=120, trust_env=False)
        print("a form with 30 MB:", answer.json()["verified"])
        disconnect(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        THREADS.shutdown()
    left = [upload.status for upload in asyncio.run(bigupload.list_uploads()) if "half.mov" in str(upload.target)]
    print("its upload:", *left)


if __name__ == "__main__":
    main()
