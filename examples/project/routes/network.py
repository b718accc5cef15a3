"""A network of two-way ferry lines, read from a CSV file: from,to,duration."""

import csv
import heapq

from routes.timetable import parse_minutes


class NoRoute(Exception):
    """There is no way from one island to the other."""


class Network:
    def __init__(self):
        self.lines = {}

    @classmethod
    def read(cls, path):
        network = cls()
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                network.add(row["from"], row["to"], parse_minutes(row["duration"]))
        return network

    def add(self, a, b, minutes):
        if minutes <= 0:
            raise ValueError(f"a line from {a} to {b} takes time")
        self.lines.setdefault(a, {})[b] = minutes
        self.lines.setdefault(b, {})[a] = minutes

    @property
    def islands(self):
        return sorted(self.lines)

    def shortest(self, start, end):
        """(minutes, islands on the way); NoRoute, or KeyError for an unknown island."""
        for island in (start, end):
            if island not in self.lines:
                raise KeyError(island)
        queue, seen = [(0, [start])], set()
        while queue:
            minutes, way = heapq.heappop(queue)
            if way[-1] == end:
                return minutes, way
            if way[-1] in seen:
                continue
            seen.add(way[-1])
            for island, more in self.lines[way[-1]].items():
                heapq.heappush(queue, (minutes + more, way + [island]))
        raise NoRoute(f"no ferry goes from {start} to {end}")
