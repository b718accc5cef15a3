import pytest

from routes import format_minutes, parse_minutes


@pytest.mark.smoke
@pytest.mark.parametrize("text, minutes", [("45 min", 45), ("2 h", 120), ("1 h 05 min", 65), ("10 h 59 min", 659)])
def test_there_and_back(text, minutes):
    assert parse_minutes(text) == minutes
    assert format_minutes(minutes) == text


def test_zero():
    assert format_minutes(0) == "0 min"


@pytest.mark.parametrize("text", ["", "soon", "1:30", "-5 min", "h"])
def test_not_a_duration(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_minutes(text)
