"""The plots of a small run: which there are, that the same figures make the same bytes, and that nothing is dated."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")

from benchmarks import plots
from benchmarks.contestants import OURS

pytestmark = pytest.mark.slow  # guards the benchmarks, not the product

GB = 1_000_000_000
LARGEST = 60_000


def spread(value: float) -> dict[str, float]:
    return {"least": value, "median": value, "most": value}


def row(name: str, seconds: float, *, outcome: str = "done") -> dict[str, Any]:
    return {
        "name": name,
        "proof": "" if name == "obstore" else "CRC64NVME",
        "outcome": outcome,
        "seconds": spread(seconds),
        "cpu": spread(0.5) if outcome == "done" else None,
        "peak": 80e6 if outcome == "done" else None,
    }


ROWS = [row(OURS, 1.5), row("obstore", 2.0), row("boto3", 600.0, outcome="late")]


def contest(*, tls: bool) -> dict[str, Any]:
    arguments = {"tls": tls, "seaweedfs": False}
    return {"benchmark": "throughput", "arguments": arguments, "contests": [{"runs": [{"size": GB}], "rows": ROWS}]}


PATHS = {
    "benchmark": "paths",
    "found": [
        {
            "kind": kind,
            "rate": 1e6,
            "displayed": {
                OURS: [
                    {
                        "began": 0.5,
                        "ended": 10.5,
                        "samples": [
                            {"at": 0.5 + at / 20, "left": None if at < 9 else 10 - at / 20} for at in range(200)
                        ],
                    }
                ]
            },
        }
        for kind in ("link", "reader", "far", "cap")
    ],
}
ALL = [contest(tls=False), contest(tls=True), PATHS]


def test_the_same_figures_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (plots.save(ALL, tmp_path / name) for name in ("first", "second"))
    assert [file.name for file in first] == ["throughput.svg", "time-left.svg"]
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    for file in first:
        text = file.read_text()
        ET.fromstring(text)
        assert not re.search(r"dc:date|matplotlib\.org/|Matplotlib v", text), file.name
        assert len(text) < LARGEST, file.name


def test_the_background_is_transparent_and_words_are_text(tmp_path: Path) -> None:
    (file,) = plots.save([contest(tls=True)], tmp_path)
    text = file.read_text()
    assert "#ffffff" not in text
    assert "https: MB/s" in text
    assert f"{OURS} (CRC64NVME)" in text
    assert "obstore (no proof)" in text
    assert "boto3" not in text, "it did not finish"


def test_each_file_makes_its_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [tmp_path / "http.json", tmp_path / "paths.json"]
    for path, figures in zip(given, (contest(tls=False), PATHS), strict=True):
        path.write_text(json.dumps(figures))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["plots", *map(str, given), "--into", str(tmp_path / "images")])
        assert plots.main() == 0
    assert "throughput.svg" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "images").iterdir()} == {"throughput.svg", "time-left.svg"}


def _luminance(colour: str) -> float:
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize("colour", [plots.HIGHLIGHT, plots.INK, plots.TRUE])
def test_colours_can_be_read_on_light_and_on_dark(colour: str, background: str) -> None:
    """WCAG 2.2, 1.4.11: a contrast of 3 for graphics."""
    darker, lighter = sorted((_luminance(colour), _luminance(background)))
    assert (lighter + 0.05) / (darker + 0.05) >= 3
