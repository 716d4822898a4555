"""The plots of a small run: which there are, that the same figures make the same bytes, and that nothing is dated."""

from __future__ import annotations

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
