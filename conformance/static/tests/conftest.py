"""The lab's environment, rendered once a session."""

import pytest

from conformance.static import environment


@pytest.fixture(scope="session")
def lab() -> environment.Environment:
    return environment.load("lab")
