"""Events arrive although workers are killed and the broker loses its power (`make soak` publishes 10,000 of them)."""

from pathlib import Path

import pytest

from tests.soak.webhooks import RESTARTED, soak


@pytest.mark.django_db(transaction=True)
def test_every_event_arrives_whatever_is_killed(tmp_path: Path) -> None:
    report = soak(
        seed=20240101,
        data_dir=tmp_path,
        events=400,
        per_second=40,
        deliverers=1,
        kill_every_s=(1, 3),
        most_kills=1,
        patience_s=70,
    )
    assert report.problems == []
    assert report.events == 400
    assert report.calls > 500
    assert report.kills.total() == 2
    assert report.kills[RESTARTED] == 1
