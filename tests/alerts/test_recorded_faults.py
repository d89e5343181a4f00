"""Faults that were really made, and the alerts that they trip: within two minutes, and over later.

`recorded_faults.json` has what a gateway and a worker showed; record_faults.py makes it anew.
"""

import re
import shutil
from pathlib import Path

import pytest
import recordings
from alert_series import promtool
from recordings import Recording

from easypay.alerts.table import RULES
from easypay.observability.metrics import Instruments

RECORDED = recordings.load()
FAMILIES = Instruments().registry.families


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
@pytest.mark.parametrize("recording", RECORDED, ids=lambda recording: recording.rule)
def test_a_fault_trips_its_alert_within_two_minutes_and_it_clears(
    recording: Recording, tmp_path: Path
) -> None:
    rules, test = recordings.promtool_test(recording)
    assert promtool(tmp_path, rules, [test], every="15s") == "", recording.fault


def test_there_are_ten_faults_and_their_metrics_still_exist() -> None:
    assert len({each.fault for each in RECORDED}) >= 10
    assert {each.rule for each in RECORDED} <= {rule.key for rule in RULES}
    for each in RECORDED:
        for name, labels, _ in each.series:
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            known = FAMILIES.get(name) or FAMILIES.get(base)
            assert name == "up" or known is not None, name
            assert known is None or set(labels) - {"le"} == set(known.labels), name
