"""The store that makes up its list: every page is what S3 would list of the tree that was planted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.listed_store import Listing, content_of, etag_of, key_of, plant

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

FILES = 2500


def pages(**query: str) -> Iterator[str]:
    """Walk through a list as clients do: by token, or by the last key."""
    listing, more = Listing(FILES), dict[str, str]()
    while True:
        page = listing.page("bucket", {**{name.replace("_", "-"): value for name, value in query.items()}, **more})
        text = page.decode()
        yield text
        if "<IsTruncated>false" in text:
            return
        if token := re.findall("<NextContinuationToken>(.*?)<", text):
            more = {"continuation-token": token[0]}
        else:
            more = {"marker": (re.findall("<NextMarker>(.*?)<", text) or re.findall("<Key>(.*?)<", text))[-1]}


@pytest.mark.parametrize("version", [{}, {"list_type": "2"}], ids=["ListObjects", "ListObjectsV2"])
def test_a_list_has_every_file_once_in_order(version: dict[str, str]) -> None:
    found = [key for page in pages(prefix="tree/", **version) for key in re.findall("<Key>(.*?)<", page)]
    assert found == [f"tree/{key_of(number)}" for number in range(FILES)]
    assert found == sorted(found)


def test_folders_and_what_is_in_one() -> None:
    (folders,) = pages(prefix="tree/", delimiter="/", list_type="2")
    assert re.findall("<CommonPrefixes><Prefix>(.*?)<", folders) == ["tree/d0000/", "tree/d0001/", "tree/d0002/"]
    in_one = [key for page in pages(prefix="tree/d0002/", delimiter="/") for key in re.findall("<Key>(.*?)<", page)]
    assert in_one == [f"tree/{key_of(number)}" for number in range(2000, FILES)]
    (after,) = pages(prefix="tree/", start_after="tree/d0002/f498.txt", list_type="2")
    assert re.findall("<Key>(.*?)<", after) == ["tree/d0002/f499.txt"]


def test_the_tree_is_what_is_listed(tmp_path: Path) -> None:
    plant(tmp_path, 1003)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.txt")) == [
        key_of(number) for number in range(1003)
    ]
    assert (tmp_path / key_of(1002)).read_bytes() == content_of(1002)
    (row,) = pages(prefix="tree/", start_after="tree/d0002/f498.txt", list_type="2")
    assert f"<ETag>&quot;{etag_of(2499)}&quot;</ETag><Size>8</Size>" in row
    assert (Listing(FILES).find("tree/d0002/f499.txt"), Listing(FILES).find("tree/d0002/f500.txt")) == (2499, None)
