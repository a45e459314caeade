from helixflow import checks


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
