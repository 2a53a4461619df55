"""One run of the parts and a few Jobs, for every test that only looks at what they say."""

from collections.abc import Iterator

import pytest

from tests.observability.running import Running, running


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Do not stop any of them."""
    with running(tmp_path_factory.mktemp("running")) as made:
        yield made
