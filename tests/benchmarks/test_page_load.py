"""The benchmark of many visitors of the page, with few of them and a small model."""

import re

from benchmarks import page_load

from ..level_models import save_level_model


def test_visitors_at_once_are_served_or_told_to_come_back(tmp_path):
    visits, seconds = page_load.measured(6, 2, str(save_level_model(tmp_path)))
    assert all(set(visit.seconds) == set(page_load.STEPS) for visit in visits)
    assert all(set(visit.told) <= {"answers", "busy"} and visit.told["answers"] == 4 for visit in visits)
    report = page_load.report(visits, seconds)
    assert re.search(r"^6 visitors at once, .*: 6 had all answers; \d+ times .*, and 0 times anything else", report)
    assert report.count("\n|") == 2 + len(page_load.STEPS)
