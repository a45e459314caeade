"""What a request leaves in memory: at thousands a second, finding it would cost the collector a tenth of the time."""

import gc
import time

import pytest

from inference.exchange import Exchange


@pytest.mark.parametrize("options", [{}, {"stream": True}, {"model": "unknown"}])
def test_a_request_is_gone_without_the_garbage_collector(plane, deployment, token, options):
    plane.chat(token)
    gc.collect()
    gc.disable()
    try:
        assert plane.chat(token, **options).content  # to its end: a traceback of a caller who left may be a cycle
        deadline = time.monotonic() + 5
        while any(type(each) is Exchange for each in gc.get_objects()):  # a list of them would keep them alive
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()
