import pytest

from common.durations import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (7.52, "7.5 s"),
        (42.4, "42 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5340, "89 min"),
        (5400, "1 h 30 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert duration(seconds) == said
