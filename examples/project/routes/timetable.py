"""Durations as a timetable prints them: "45 min", "2 h", "1 h 05 min"."""

import re


def parse_minutes(text):
    """The number of minutes; ValueError where the text is no duration."""
    match = re.fullmatch(r"(?:(\d+) h)?(?: ?(\d+) min)?", text.strip())
    if not match or not any(match.groups()):
        raise ValueError(f"not a duration: {text!r}")
    hours, minutes = (int(group or 0) for group in match.groups())
    return 60 * hours + minutes


def format_minutes(minutes):
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{rest} min"
    return f"{hours} h {rest:02} min" if rest else f"{hours} h"
