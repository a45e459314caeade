"""A bounded run of the state machine: the same examples each time. `make soak` tries others, and more."""

import pytest

from tests.billing import state_machine
from tests.billing.admitting import forget_snapshots


@pytest.mark.django_db(transaction=True)
def test_any_order_of_what_can_happen_counts_each_request_once():
    forget_snapshots()
    state_machine.run(examples=20, steps=30)
