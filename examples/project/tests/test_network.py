import pytest

from routes import Network, NoRoute


@pytest.mark.smoke
def test_islands(ferries):
    assert ferries.islands == ["Alder", "Birch", "Cedar", "Elm", "Fir", "Gorse"]


@pytest.mark.parametrize(
    "start, end, minutes, way",
    [
        ("Alder", "Alder", 0, ["Alder"]),
        ("Alder", "Birch", 45, ["Alder", "Birch"]),
        ("Alder", "Cedar", 75, ["Alder", "Birch", "Cedar"]),
        ("Alder", "Elm", 185, ["Alder", "Birch", "Elm"]),
        ("Gorse", "Fir", 25, ["Gorse", "Fir"]),
    ],
)
def test_shortest(ferries, start, end, minutes, way):
    assert ferries.shortest(start, end) == (minutes, way)


@pytest.mark.parametrize("start", ["Alder", "Cedar", "Elm"])
def test_same_time_both_ways(ferries, start):
    assert ferries.shortest(start, "Birch")[0] == ferries.shortest("Birch", start)[0]


def test_no_route(ferries):
    with pytest.raises(NoRoute, match="from Alder to Fir"):
        ferries.shortest("Alder", "Fir")


def test_unknown_island(ferries):
    with pytest.raises(KeyError, match="Atlantis"):
        ferries.shortest("Alder", "Atlantis")


def test_a_line_takes_time():
    with pytest.raises(ValueError):
        Network().add("Alder", "Birch", 0)
