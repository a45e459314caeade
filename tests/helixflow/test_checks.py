from helixflow import checks
from helixflow.lib import file_storage


def test_mail_to_the_log_is_a_warning(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert checks.mail_leaves(None) == []
    settings.EMAIL_BACKEND = "helixflow.mail.EmailBackend"
    assert [found.id for found in checks.mail_leaves(None)] == ["helixflow.W001"]


def test_https_without_a_trusted_proxy_is_a_warning(settings):
    settings.HTTPS, settings.TRUSTED_PROXIES = True, 1
    assert checks.https_is_recognised(None) == []
    settings.TRUSTED_PROXIES = 0
    assert [found.id for found in checks.https_is_recognised(None)] == ["helixflow.W002"]
    settings.HTTPS = False
    assert checks.https_is_recognised(None) == []


def test_a_storage_without_tls_is_a_warning(settings):
    for url, found in (
        ("", []),
        ("s3://bucket?region=eu-central-1", []),
        ("s3://bucket?endpoint=https://s3.example.com", []),
        ("s3://bucket?endpoint=http://127.0.0.1:9000", []),
        ("s3://bucket?endpoint=http://localhost:9000", []),
        ("s3://bucket?endpoint=http://s3.example.com", ["helixflow.W003"]),
    ):
        settings.STORAGES = settings.STORAGES | {"default": file_storage.parse(url)}
        assert [each.id for each in checks.files_travel_encrypted(None)] == found
