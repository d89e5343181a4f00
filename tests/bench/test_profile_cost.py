"""What a profile costs is judged by the median of its pairs."""

from easypay_bench.profile_cost import Side, lines

OFF = Side(1000.0, 500.0)


def test_the_bar_is_judged_by_the_median() -> None:
    cheap, dear = (OFF, Side(990.0, 520.0)), (OFF, Side(900.0, 600.0))
    assert lines([cheap, dear, cheap], "cpu")[-1].endswith(": met")
    assert lines([dear, dear, cheap], "wait")[-1].endswith(": MISSED")
    *_, last = lines([dear], "memory")
    assert last.split() == ["median", "-10.0%", "+20.0%"]
