"""How far behind a replica is, from what the primary and the replica said."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay.db.replica import Progress, Sample
from easypay.settings import Settings

START = datetime(2026, 11, 30, tzinfo=UTC)


def at(second: float, lsn: int) -> Sample:
    return Sample(lsn, second, START + timedelta(seconds=second))


def reached(progress: Progress) -> float | None:
    return None if progress.reached is None else progress.reached.at


def test_the_moment_is_the_newest_at_which_the_primary_had_no_more() -> None:
    progress = Progress()
    for second, lsn in ((1, 100), (2, 200), (3, 300)):
        progress.primary_is_at(at(second, lsn))
    for lsn, moment in ((99, None), (100, 1), (199, 1), (250, 2), (300, 3), (300, 3)):
        progress.replica_is_at(lsn)
        assert reached(progress) == moment


def test_an_idle_primary_makes_no_replica_old() -> None:
    progress = Progress()
    for second in range(1000):
        progress.primary_is_at(at(second, 100))
        progress.replica_is_at(100)
        assert reached(progress) == second


def test_nothing_is_known_after_a_failover_to_a_server_that_has_less() -> None:
    progress = Progress()
    progress.primary_is_at(at(1, 100))
    progress.replica_is_at(100)
    progress.primary_is_at(at(2, 90))
    assert reached(progress) is None
    progress.replica_is_at(100)
    assert reached(progress) == 2


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=200), st.integers(2, 9))
def test_the_moment_is_never_too_late_however_few_samples_are_kept(
    steps: list[tuple[int, int]], most: int
) -> None:
    progress, samples, replayed = Progress(most), [], 0
    for second, (written, replays) in enumerate(steps):
        ahead = (samples[-1].lsn if samples else 0) + written
        samples.append(at(second, ahead))
        progress.primary_is_at(samples[-1])
        replayed = min(ahead, replayed + replays)
        progress.replica_is_at(replayed)
        truth = max((each.at for each in samples if each.lsn <= replayed), default=None)
        found = reached(progress)
        assert found is None or (truth is not None and found <= truth)
        assert found == truth or len(steps) > most
        assert len(progress._ahead) <= most


def _settings(url: str | None, **more: object) -> Settings:
    return Settings(
        database_url="postgresql://a/b", encryption_key="k", database_replica_url=url, **more
    )


@pytest.mark.parametrize(
    "url", ["postgresql://u:p@a:1,b:2/d", "postgresql://u@/d?host=a,b&port=1,2"]
)
def test_a_replica_is_one_server(url: str) -> None:
    with pytest.raises(ValueError, match="name one server"):
        _settings(url)


def test_connections_to_the_replica_are_counted_apart_from_those_to_the_primary() -> None:
    without, with_one = _settings(None), _settings("postgresql://u:p%2C@a:1/d")
    assert (without.replica_connections, with_one.replica_connections) == (0, 10)
    assert without.database_connections == with_one.database_connections
    assert _settings("").database_replica_url is None
