"""How the page's files are served."""

from __future__ import annotations

import httpx

from tests.tools.service import Service


def test_files_are_compressed_for_those_who_take_it(service: Service) -> None:
    url = f"{service.url}/page/style.css"
    sizes = {}
    for accepted in ("gzip, br", "identity", "gzip;q=0, identity", "gzip ; q=0.000"):
        response = httpx.get(url, headers={"Accept-Encoding": accepted}, trust_env=False)
        assert response.headers.get("Content-Encoding") == ("gzip" if accepted == "gzip, br" else None)
        assert "Accept-Encoding" in response.headers["Vary"]
        assert response.text.startswith("/* Colours")
        sizes[accepted] = int(response.headers["Content-Length"])
    assert sizes["gzip, br"] * 3 < sizes["identity"]
