"""A file of a web server: what its responses say of it, and what is read of it. `integration` has whole uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigupload import errors
from bigupload.core.remote_url import chosen_name, parse_remote
from bigupload.core.retry_policy import Fault, FaultKind
from bigupload.http.web_file import HEAD, WebFile, suggested_name
from tests.tools.cases import each_case
from tests.tools.web_server import WebFault, WebServer, is_part, web_server

DATA = bytes(range(256)) * 1000

# -- names


@each_case(
    ("disposition", "name"),
    [
        ("", None), ("attachment", None), ("attachment; size=3", None), ("filename=x.mov", None),
        ("attachment; filename=x.mov", "x.mov"), ("INLINE ; FileName = x.mov ", "x.mov"),
        ('attachment; filename="a b;c.mov"', "a b;c.mov"), (r'attachment; filename="a\"b.mov"', 'a"b.mov'),
        (r'attachment; filename="C:\films\x.mov"', r"C:\films\x.mov"),
        ("attachment; filename*=UTF-8''%C3%A4.mov", "ä.mov"), ("attachment; filename*=''%C3%A4.mov", "ä.mov"),
        ("attachment; filename*=iso-8859-1'en'%E4.mov", "ä.mov"),
        ("attachment; filename=x.mov; filename*=UTF-8''%C3%A4.mov", "ä.mov"),
        ("attachment; filename*=UTF-8''%C3%A4.mov; filename=x.mov", "ä.mov"),
        ('attachment; filename*0="a"; filename*1="b.mov"', "ab.mov"),
        ("attachment; filename*0*=UTF-8''%C3; filename*1*=%A4.mov", "ä.mov"),
        # as servers send it that write UTF-8, or ISO 8859-1, without more ado
        ('attachment; filename="\xc3\xa4.mov"', "ä.mov"), ('attachment; filename="\xe4.mov"', None),
        ("attachment; filename=\xe4.mov; filename*=UTF-8''%C3%A4.mov", "ä.mov"),
        # what can't be read does not hide what can
        ("attachment; filename*=UTF-8''%ff.mov; filename=x.mov", "x.mov"),
        ("attachment; filename*=no-charset''a.mov; filename=x.mov", "x.mov"),
        ("attachment; filename*=hex''ff; filename=x.mov", "x.mov"),
        ('attachment; filename="x.mov', None),
        (f"attachment; filename*{'9' * 5000}=x.mov", None),
        (f"attachment; filename={'x' * 8192}", None),
    ],
)  # fmt: skip
def test_the_name_that_a_server_suggests(disposition: str, name: str | None) -> None:
    assert suggested_name(disposition) == name


WORDS = ["attachment", "filename", "UTF-8", "%C3", "%A4", "%zz", *";*01=''\"\\x "]


@given(
    st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])) | st.lists(st.sampled_from(WORDS)).map("".join)
)
def test_whatever_it_says(disposition: str) -> None:
    name = suggested_name(f"attachment; filename{disposition}")
    assert name is None or isinstance(name, str)
    assert "/" not in chosen_name(parse_remote("http://host/download"), name)


# -- responses


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        server.serve("/film.mov", DATA)
        yield server


@pytest.fixture
async def file(web: WebServer) -> AsyncIterator[WebFile]:
    made = WebFile(parse_remote(f"{web.url}/film.mov"), ca_bundle=None, stall_after=60)
    yield made
    await made.aclose()


async def read(file: WebFile, start: int, end: int) -> bytes:
    found = bytearray()

    async def take(data: bytes) -> None:
        found.extend(data)

    await file.read(start, end, take)
    return bytes(found)


async def test_a_file_with_ranges(web: WebServer, file: WebFile) -> None:
    facts = await file.look()
    assert (facts.size, facts.pin, facts.head) == (len(DATA), '"one"', DATA[:HEAD])
    assert await read(file, 10, 200_000) == DATA[10:200_000]


@pytest.mark.parametrize("end", ["length", "chunks"])
async def test_a_stream_that_breaks_gives_first_what_came(web: WebServer, file: WebFile, end: str) -> None:
    web.serve("/film.mov", DATA, ranges=False, end=end)
    web.faults.append(WebFault(cut_after=1000))
    await file.look()
    buffer = memoryview(bytearray(1000))
    assert await file.fill(buffer) == 1000
    assert buffer == DATA[:1000]
    with pytest.raises(errors.SourceUnreachable, match=r"ended before all of its bytes had come.* read from its begin"):
        await file.fill(buffer)


@pytest.mark.parametrize("closed", [False, True])
async def test_a_stream_that_is_left_closes_its_connection(web: WebServer, file: WebFile, closed: bool) -> None:
    web.files["/film.mov"].ranges = False
    web.faults.append(WebFault(stall_after=10))
    await file.look()
    connections = list(file._client.pool._open)
    if closed:
        file.close()
    await file.aclose()
    assert connections
    assert all(each.closed.done() for each in connections)


@pytest.mark.parametrize("location", ["/f\xc3\xa4.mov", "/f%C3%A4.mov", "f\xc3\xa4.mov#end"])
async def test_a_redirect_to_a_path_that_is_not_ascii(web: WebServer, file: WebFile, location: str) -> None:
    """Its bytes are what they were, whether they were encoded or not."""
    web.faults.append(WebFault(status=302, headers={"Location": location}))
    web.serve("/f%C3%A4.mov", DATA[:5])
    assert (await file.look()).size == 5
    assert web.asked[-1].path == "/f%C3%A4.mov"


async def test_a_refusal_is_one_of_the_source(web: WebServer, file: WebFile) -> None:
    await file.look()
    web.faults.append(WebFault(status=503, headers={"Retry-After": "7"}))
    web.faults.append(WebFault(cut_after=10, when=is_part))
    with pytest.raises(Fault, match=r"film\.mov: the server responded 503") as caught:
        await read(file, 0, 100)
    assert (caught.value.kind, caught.value.retry_after) == (FaultKind.BUSY, 7)
    assert isinstance(caught.value.public(), errors.SourceError)
    with pytest.raises(Fault, match="ended before") as caught:
        await read(file, 0, 100)
    assert caught.value.kind is FaultKind.BROKEN
    assert isinstance(caught.value.public(), errors.SourceError)


async def test_a_server_that_sends_parts_only(web: WebServer, file: WebFile) -> None:
    web.serve("/film.mov", DATA, etag=None)
    web.faults.append(WebFault(status=206, when=lambda asked: asked.range is None))
    with pytest.raises(Fault, match=r"film\.mov: the server responded 206") as caught:
        await file.look()
    assert isinstance(caught.value.public(), errors.SourceUnreadable)


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
async def test_a_host_that_can_t_exist(host: str) -> None:
    file = WebFile(parse_remote(f"http://{host}/film.mov"), ca_bundle=None, stall_after=60)
    with pytest.raises(errors.SourceUnsupported, match="has an invalid host name"):
        await file.look()
    await file.aclose()


# -- a guard


class GuardedError(errors.SourceUnsupported):
    pass
