"""What the site's API reference says of webhooks' REST. That its samples fit answers is tested with the description."""

from django.test import Client

from webhooks import delivery_words


def test_each_code_of_a_failed_attempt_is_named(client: Client) -> None:
    page = client.get("/docs/api/webhooks").content.decode()
    for code in {"status", *delivery_words.ERRORS}:
        assert f"<code>{code}</code>" in page
