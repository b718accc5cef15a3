import pytest

from routes import Network


@pytest.fixture(scope="session")
def ferries():
    # Relative: tests run in the project's root, here and on every node.
    return Network.read("tests/data/ferries.csv")
