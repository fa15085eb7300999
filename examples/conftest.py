"""Makes the tests of this folder run on a clock that jumps."""

from hal.testing import JumpingLoop


def pytest_asyncio_loop_factories(config, item):
    return {"jumping": JumpingLoop}
