"""What an earlier upload means for the next one of the same file."""

from __future__ import annotations

import dataclasses

from bigupload.core.integrity import Verified
from bigupload.core.manifest import Completed, Manifest, Target
from bigupload.engine.upload_run import complete_already
from tests.core.samples import ALL_PARTS, header
from tests.tools.cases import each_case


@each_case(("url", "shown"), [("https://media.example/film", "https://media.example/film"), (None, "https://service")])
def test_a_media_service_is_said_to_have_the_file_at_its_url(url: str | None, shown: str) -> None:
    manifest = Manifest(dataclasses.replace(header(), target=Target(key="key", service="https://service")))
    for record in (*ALL_PARTS, Completed(etag='"e"', verified=Verified.SIZE, url=url)):
        manifest.apply(record)
    assert f"this file was uploaded already, as {shown}" in complete_already(manifest, compared=False)
