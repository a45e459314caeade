"""The tests' own promise: nothing but loopback can be reached from them."""

import socket

import pytest
from pytest_socket import SocketConnectBlockedError

DOCUMENTATION_ADDRESS = "192.0.2.1"  # RFC 5737: nobody's


@pytest.mark.filterwarnings("ignore:A test tried to use")
def test_an_address_on_the_internet_cannot_be_dialled() -> None:
    with socket.socket() as outgoing, pytest.raises(SocketConnectBlockedError):
        outgoing.connect((DOCUMENTATION_ADDRESS, 443))


def test_loopback_can_be_dialled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as outgoing:
        assert outgoing.getpeername() == server.getsockname()
