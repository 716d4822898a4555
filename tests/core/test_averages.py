"""Averages are those of the module `statistics`."""

from __future__ import annotations

import statistics

from bigupload.core.flight_trials import mean
from bigupload.core.hedging import median
from tests.tools.cases import each_case


@each_case("values", [[3.0], [1.0, 4.0], [5.0, 1.0, 2.0], [8.0, 1.0, 3.0, 2.0]])
def test_they_are_those_of_statistics(values: list[float]) -> None:
    assert mean(values) == statistics.fmean(values)
    assert median(values) == statistics.median(values)
