"""All settings, read from the environment. Every variable has its line in .env.example and docs/configuration.md."""

import os
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from helixflow.lib import env, file_storage, redis_address, secrets

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "1.1.0"

ENVIRONMENT = env.choice("HELIXFLOW_ENV", "development", ("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.boolean("HELIXFLOW_DEBUG")
if DEBUG and PRODUCTION:
    raise ImproperlyConfigured("HELIXFLOW_DEBUG must be false when HELIXFLOW_ENV is production.")

HOST = env.text("HELIXFLOW_HOST", "127.0.0.1")
PORT = env.integer("HELIXFLOW_PORT", 8000, least=1, most=65535)
PUBLIC_URL = env.text("HELIXFLOW_PUBLIC_URL", f"http://{HOST}:{PORT}").rstrip("/")
_public = urlsplit(PUBLIC_URL)
if _public.scheme not in {"http", "https"} or not _public.hostname:
    raise ImproperlyConfigured(
        "HELIXFLOW_PUBLIC_URL must be an http or https address, such as https://api.example.com."
    )
HTTPS = _public.scheme == "https"
DATA_DIR = Path(env.text("HELIXFLOW_DATA_DIR", str(BASE_DIR / ".helixflow"))).absolute()
WEB_PROCESSES = env.integer("HELIXFLOW_WEB_PROCESSES", os.cpu_count() or 1, least=1, most=1024)
SHUTDOWN_GRACE_S = env.integer("HELIXFLOW_SHUTDOWN_GRACE_S", 20, most=3600)
TRUSTED_PROXIES = env.integer("HELIXFLOW_TRUSTED_PROXIES", 0, most=16)
CORS_ORIGINS = env.items("HELIXFLOW_CORS_ORIGINS")
METRICS_TOKEN = env.text("HELIXFLOW_METRICS_TOKEN")
STATUS_URL = env.text("HELIXFLOW_STATUS_URL", PUBLIC_URL).rstrip("/")  # where the status page's probe looks for us
WEBHOOK_ALLOW_LOOPBACK = env.boolean("HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK")
if WEBHOOK_ALLOW_LOOPBACK and PRODUCTION:
    raise ImproperlyConfigured("HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK must be false when HELIXFLOW_ENV is production.")
# After the attempt before, each ±20% (contract §7). Tests shrink it.
WEBHOOK_DELAYS_S = env.numbers(
    "HELIXFLOW_WEBHOOK_DELAYS_S", (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
WEBHOOK_TIMEOUT_S = env.integer("HELIXFLOW_WEBHOOK_TIMEOUT_S", 15, least=1, most=60)  # a call in all
WEBHOOK_LEASE_S = env.integer("HELIXFLOW_WEBHOOK_LEASE_S", 60, least=1, most=600)
if WEBHOOK_LEASE_S < 2 * WEBHOOK_TIMEOUT_S:
    raise ImproperlyConfigured("HELIXFLOW_WEBHOOK_LEASE_S must be at least twice HELIXFLOW_WEBHOOK_TIMEOUT_S.")
WEBHOOK_RETENTION_DAYS = env.integer("HELIXFLOW_WEBHOOK_RETENTION_DAYS", 90, least=1, most=3650)
WEBHOOK_MAX_ENDPOINTS = env.integer("HELIXFLOW_WEBHOOK_MAX_ENDPOINTS", 20, least=1, most=1000)  # of an organization
CLOCK_OFFSET_S = env.integer("HELIXFLOW_CLOCK_OFFSET_S", 0, least=-(2**31))
if CLOCK_OFFSET_S and PRODUCTION:
    raise ImproperlyConfigured("HELIXFLOW_CLOCK_OFFSET_S must be 0 when HELIXFLOW_ENV is production.")

CURRENCY = env.text("HELIXFLOW_CURRENCY", "USD")  # of all prices, costs and budgets
if not re.fullmatch("[A-Z]{3}", CURRENCY):
    raise ImproperlyConfigured("HELIXFLOW_CURRENCY must be three capital letters, such as USD or EUR.")

SUPPORT_EMAIL = env.text("HELIXFLOW_SUPPORT_EMAIL", "support@helixflow.com")
COMMUNITY_URL = env.text("HELIXFLOW_COMMUNITY_URL", "https://community.helixflow.com")
EXAMPLE_MODEL = "gpt-3.5-turbo"  # in the snippets of pages; the seeds always make it

# Secrets: required in production; in development made once in the data directory.
_secrets = secrets.Secrets(DATA_DIR, required=PRODUCTION)
SECRET_KEY = _secrets.get("HELIXFLOW_SECRET_KEY", secrets.random_text)
JWT_KEY = _secrets.get("HELIXFLOW_JWT_KEY", secrets.random_text)
ENCRYPTION_KEYS = _secrets.get_list("HELIXFLOW_ENCRYPTION_KEYS", secrets.fernet_key)
KEY_PEPPERS = _secrets.get_list("HELIXFLOW_KEY_PEPPERS", secrets.random_text)

# PostgreSQL and Redis: from the environment, else those that `manage.py up` runs in the data directory.
_embedded = secrets.embedded_services(DATA_DIR)
DATABASE_URL = env.text("DATABASE_URL") or _embedded.get("DATABASE_URL", "")
REDIS_URL = env.text("REDIS_URL") or _embedded.get("REDIS_URL", "")
if PRODUCTION and not (DATABASE_URL and REDIS_URL):
    raise ImproperlyConfigured("DATABASE_URL and REDIS_URL must be set when HELIXFLOW_ENV is production.")
# Port 1 answers nobody: commands that need no server work before `up` has run, the others say what is refused.
DATABASE_URL = DATABASE_URL or "postgresql://helixflow@127.0.0.1:1/helixflow"
REDIS_URL = REDIS_URL or "redis://127.0.0.1:1/0"
EMBEDDED_MODEL_URL = _embedded.get("EMBEDDED_MODEL_URL", "")
EMBEDDED_MODEL_KEY = _embedded.get("EMBEDDED_MODEL_KEY", "")
# What seeding connects, by the names of inference.seed_models.
PROVIDERS = {
    "openai": {"key": env.text("OPENAI_API_KEY")},
    "anthropic": {"key": env.text("ANTHROPIC_API_KEY")},
    "gemini": {"key": env.text("GEMINI_API_KEY")},
    "mistral": {"key": env.text("MISTRAL_API_KEY")},
    "deepseek": {"key": env.text("DEEPSEEK_API_KEY")},
    "xai": {"key": env.text("XAI_API_KEY")},
    "groq": {"key": env.text("GROQ_API_KEY")},
    "together": {"key": env.text("TOGETHER_API_KEY")},
    "cerebras": {"key": env.text("CEREBRAS_API_KEY")},
    "fireworks": {"key": env.text("FIREWORKS_API_KEY")},
    "openrouter": {"key": env.text("OPENROUTER_API_KEY")},
}
if _endpoint := env.text("AZURE_OPENAI_ENDPOINT"):
    PROVIDERS["azure"] = {"key": env.text("AZURE_OPENAI_API_KEY"), "base_url": _endpoint}
# Many machines have AWS's variables for reasons of their own, so they count only where this one asks for Bedrock.
if _region := env.text("HELIXFLOW_BEDROCK_REGION"):
    _pair = [env.text("AWS_ACCESS_KEY_ID"), env.text("AWS_SECRET_ACCESS_KEY"), env.text("AWS_SESSION_TOKEN")]
    _credential = env.text("AWS_BEARER_TOKEN_BEDROCK") or ":".join(filter(None, _pair))
    if not (env.text("AWS_BEARER_TOKEN_BEDROCK") or all(_pair[:2])):
        raise ImproperlyConfigured(
            "HELIXFLOW_BEDROCK_REGION needs AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    PROVIDERS["bedrock"] = {"key": _credential, "region": _region}
FILES_MB = env.integer("HELIXFLOW_FILES_MB", 2_000, least=1)  # an organization's, together
BATCH_URL = env.text("HELIXFLOW_BATCH_URL", PUBLIC_URL).rstrip("/")  # where workers send the requests of batches
if urlsplit(BATCH_URL).scheme not in {"http", "https"} or not urlsplit(BATCH_URL).hostname:
    raise ImproperlyConfigured("HELIXFLOW_BATCH_URL must be an http or https address, such as http://10.0.0.5:8000.")
BATCH_PARALLEL = env.integer("HELIXFLOW_BATCH_PARALLEL", 8, least=1, most=256)  # of an organization at once
BATCH_LEASE_S = env.integer("HELIXFLOW_BATCH_LEASE_S", 20, least=1, most=600)
BATCH_TURN_S = env.integer("HELIXFLOW_BATCH_TURN_S", 10, least=1, most=600)
# After each failed try of a request that may succeed yet. Tests shrink it.
BATCH_DELAYS_S = env.numbers("HELIXFLOW_BATCH_DELAYS_S", (2, 10, 60, 300))
KEPT_ANSWERS_MB = env.integer("HELIXFLOW_KEPT_ANSWERS_MB", 64, least=4, most=65_536)
REDIS_BUDGET_S = env.integer("HELIXFLOW_REDIS_BUDGET_MS", 50, least=1, most=60_000) / 1000
CACHE_URL = env.text("CACHE_URL", REDIS_URL)
CHANNELS_REDIS_URL = env.text("CHANNELS_REDIS_URL", REDIS_URL)
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", REDIS_URL)
redis_address.parse(REDIS_URL)
redis_address.parse(CHANNELS_REDIS_URL, "CHANNELS_REDIS_URL")
_clustered = {"CELERY_BROKER_URL": CELERY_BROKER_URL, "CACHE_URL": CACHE_URL}
_clustered = {name: url for name, url in _clustered.items() if redis_address.is_cluster(url)}
if _clustered:
    raise ImproperlyConfigured(
        f"{' and '.join(_clustered)} must name a server that is no cluster, as REDIS_URL may: "
        "neither Celery nor the cache can use one."
    )

_database = env.url("DATABASE_URL", DATABASE_URL, ("postgres", "postgresql"))
_user, _password = env.credentials(_database)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/") or "helixflow",
        "USER": _user,
        "PASSWORD": _password,
        "HOST": _database.hostname or "127.0.0.1",
        "PORT": _database.port or 5432,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # What the address says after its question mark counts: sslmode above all.
        "OPTIONS": {
            "connect_timeout": 2,
            "application_name": "helixflow",
            # A host that vanished without a word is noticed within half a minute.
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            **dict(parse_qsl(_database.query)),
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "accounts",
    "webhooks",
    "billing",
    "inference",
    "helixflow.apps.HelixFlowConfig",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "csp",
    "django_htmx",
    "rest_framework",
]

MIDDLEWARE = [
    "helixflow.middleware.RequestIdMiddleware",
    "helixflow.middleware.ClientAddressMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "helixflow.middleware.ErrorMiddleware",
    "csp.middleware.CSPMiddleware",
    "helixflow.middleware.PrivatePagesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "helixflow.middleware.SupportViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "helixflow.urls"
ASGI_APPLICATION = "helixflow.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "helixflow.context.site",
            ],
        },
    }
]

# Who may call, and how
AUTH_USER_MODEL = "accounts.User"
SILENCED_SYSTEM_CHECKS = ["auth.W004"]  # unique without regard to case, by a constraint on UPPER()
AUTHENTICATION_BACKENDS = ["accounts.backends.UsernameOrEmailBackend"]
PASSWORD_HASHERS = ["accounts.passwords.Argon2Hasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("email", "username", "name")},
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 8}},
    {"NAME": "accounts.passwords.MaximumLengthValidator"},
    {"NAME": "accounts.passwords.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/dashboard"
LOGOUT_REDIRECT_URL = "/"
PASSWORD_RESET_TIMEOUT = 3600

ALLOWED_HOSTS = [_public.hostname] + ([] if PRODUCTION else ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "helixflow.views.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_ENGINE = "accounts.web_sessions"
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "helixflow_session"
CSRF_COOKIE_HTTPONLY = True
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "manifest-src": [SELF],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.jwt.JWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["helixflow.lib.drf.StrictJSONParser"],
    "EXCEPTION_HANDLER": "helixflow.lib.drf.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS would describe the views in a shape of DRF's own
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "helixflow.lib.drf.AlwaysJSON",
}

# JWTs of /v1/auth; each also names its session, a row (accounts/sessions.py).
JWT_ACCESS_LIFETIME = timedelta(hours=1)
JWT_REFRESH_LIFETIME = timedelta(days=7)
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_KEY,
    "ISSUER": "helixflow",
    "LEEWAY": 30,
    "ACCESS_TOKEN_LIFETIME": JWT_ACCESS_LIFETIME,
    "REFRESH_TOKEN_LIFETIME": JWT_REFRESH_LIFETIME,
}

# The cache holds throttle counters; they must be shared and atomic, so it is always Redis.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": CACHE_URL,
        "KEY_PREFIX": "cache",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }
}
RATELIMIT_FAIL_OPEN = False

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [{"address": url, "socket_timeout": 15} for url in redis_address.servers(CHANNELS_REDIS_URL)]
        },
    }
}

# acks_late: a killed worker's task is run again. No countdown over 60 s: longer waits belong to tables.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ROUTES = {  # of workers that others may keep waiting: receivers, and models
    "webhooks.tasks.deliver": {"queue": "webhooks"},
    "inference.tasks.work_batches": {"queue": "batches"},
}
CELERY_ACCEPT_CONTENT = [CELERY_TASK_SERIALIZER := "json"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 120, "socket_timeout": 15, "global_keyprefix": "celery:"}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False  # LOGGING below holds for the worker and beat too
CELERY_WORKER_REDIRECT_STDOUTS = False
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "sweep-exports": {"task": "accounts.tasks.sweep_exports", "schedule": 30.0, "options": {"expires": 30.0}},
    "drop-export-litter": {"task": "accounts.tasks.drop_export_litter", "schedule": 3600.0},
    "erase-due": {"task": "accounts.tasks.erase_due", "schedule": 60.0, "options": {"expires": 60.0}},
    "clear-expired-sessions": {"task": "accounts.tasks.clear_expired_sessions", "schedule": 3600.0},
    "sweep-webhooks": {"task": "webhooks.tasks.sweep", "schedule": 5.0, "options": {"expires": 5.0}},
    "probe": {"task": "helixflow.tasks.probe", "schedule": 60.0, "options": {"expires": 55.0}},
    "drop-old-status": {"task": "helixflow.tasks.drop_old_status", "schedule": 86_400.0},
    "drop-old-events": {"task": "webhooks.tasks.drop_old", "schedule": 3600.0},
    "watch-alerts": {"task": "billing.tasks.watch_alerts", "schedule": 60.0, "options": {"expires": 60.0}},
    "measure-models": {"task": "inference.tasks.measure_models", "schedule": 60.0, "options": {"expires": 55.0}},
    "drop-contents": {"task": "inference.tasks.drop_contents", "schedule": 600.0, "options": {"expires": 600.0}},
    "sweep-batches": {"task": "inference.tasks.sweep_batches", "schedule": 5.0, "options": {"expires": 5.0}},
    "drop-old-batches": {"task": "inference.tasks.drop_old_batches", "schedule": 3600.0},
}

# E-mail: console in development unless EMAIL_URL is set.
_email = env.url("EMAIL_URL", "console://", ("console", "smtp", "smtps", "smtp+tls"))
EMAIL_BACKEND = (
    "helixflow.mail.EmailBackend" if _email.scheme == "console" else "django.core.mail.backends.smtp.EmailBackend"
)
EMAIL_HOST = _email.hostname or "localhost"
EMAIL_PORT = _email.port or {"smtps": 465, "smtp+tls": 587}.get(_email.scheme, 25)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = env.credentials(_email)
EMAIL_USE_SSL = _email.scheme == "smtps"
EMAIL_USE_TLS = _email.scheme == "smtp+tls"
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.text("HELIXFLOW_FROM_EMAIL", f"HelixFlow <{SUPPORT_EMAIL}>")

# Pages and assets
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": file_storage.parse(
        env.text("HELIXFLOW_FILES_URL"),
        env.text("HELIXFLOW_FILES_ACCESS_KEY"),
        env.text("HELIXFLOW_FILES_SECRET_KEY"),
    ),
    "staticfiles": {"BACKEND": "helixflow.storage.StaticStorage"},
}
MEDIA_ROOT = DATA_DIR / "files"

LOG_FORMAT = env.choice("HELIXFLOW_LOG_FORMAT", "json" if PRODUCTION else "text", ("json", "text"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request_id": {"()": "helixflow.lib.log.RequestIdFilter"},
        "tokens": {"()": "helixflow.lib.log.TokenFilter"},
    },
    "formatters": {
        "text": {"format": "%(levelname)s %(name)s %(message)s %(request_id)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s %(client_request_id)s",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
        },
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "filters": ["request_id", "tokens"], "formatter": LOG_FORMAT},
    },
    "root": {"handlers": ["console"], "level": env.text("HELIXFLOW_LOG_LEVEL", "INFO")},
    "loggers": {
        "celery": {"level": "WARNING"},
        "django": {"handlers": [], "propagate": True},
        "django.security.DisallowedHost": {"level": "CRITICAL"},  # a trace for whoever forges a Host; 400 is logged
        "urllib3": {"level": "INFO"},  # below that it writes whole URLs, and receivers of webhooks keep tokens in them
        "uvicorn": {"handlers": [], "propagate": True},
    },
}
