"""What an error must look like, for tests of the gateway."""


def error(response, status, code):
    """The error object of a response that must be this error, in the contract's shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    found = response.json()["error"]
    assert found["code"] == code
    assert set(found) == {"code", "message", "type", "param", "details", "timestamp", "request_id"}
    assert found["request_id"] == response.headers["x-request-id"]
    return found
