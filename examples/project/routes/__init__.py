"""Ferry routes between islands: which way is the shortest, and how long does it take?"""

from routes.network import Network, NoRoute
from routes.timetable import format_minutes, parse_minutes

__all__ = ["Network", "NoRoute", "format_minutes", "parse_minutes"]
