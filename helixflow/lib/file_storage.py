"""Where files are kept, from HELIXFLOW_FILES_URL, as Django's STORAGES has it. Knows boto3 by name only."""

from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ImproperlyConfigured

NAME: Final = "HELIXFLOW_FILES_URL"
LOCAL: Final = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
S3: Final = "helixflow.s3.S3Files"
STYLES: Final = ("path", "virtual")
PARAMETERS: Final = ("region", "endpoint", "addressing")


def parse(url: str, access_key: str = "", secret_key: str = "") -> dict[str, Any]:
    """``s3://bucket/prefix?region=…&endpoint=…&addressing=…``; empty: the local disk. Raises ImproperlyConfigured."""
    if bool(access_key) is not bool(secret_key):
        raise ImproperlyConfigured("HELIXFLOW_FILES_ACCESS_KEY and HELIXFLOW_FILES_SECRET_KEY must be set together.")
    if not url:
        if access_key:
            raise ImproperlyConfigured(f"HELIXFLOW_FILES_ACCESS_KEY needs {NAME}, which says what it opens.")
        return LOCAL
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or not parts.netloc.replace("-", "").replace(".", "").isalnum():
        raise ImproperlyConfigured(f"{NAME} must read s3://bucket/prefix, with ?region= and ?endpoint= where needed.")
    given = _parameters(parts.query)
    endpoint = given.get("endpoint")
    options = {
        "bucket_name": parts.netloc,
        "location": parts.path.strip("/"),
        "region_name": given.get("region"),
        "endpoint_url": endpoint,
        # Few servers but AWS's own have a name for each bucket.
        "addressing_style": given.get("addressing") or ("path" if endpoint else "virtual"),
    }
    if access_key:
        options |= {"access_key": access_key, "secret_key": secret_key, "security_token": None}
    return {"BACKEND": S3, "OPTIONS": options}


def _parameters(query: str) -> dict[str, str]:
    given = parse_qs(query, keep_blank_values=True)
    if unknown := sorted(set(given) - set(PARAMETERS)):
        raise ImproperlyConfigured(f"{NAME} has the unknown parameter {unknown[0]}: it takes {', '.join(PARAMETERS)}.")
    if any(len(values) > 1 or not values[0] for values in given.values()):
        raise ImproperlyConfigured(f"{NAME} must have each of its parameters once, with a value.")
    found = {name: values[0] for name, values in given.items()}
    if found.get("addressing", STYLES[0]) not in STYLES:
        raise ImproperlyConfigured(f"{NAME}: addressing must be one of {', '.join(STYLES)}.")
    if "endpoint" in found:
        address = urlsplit(found["endpoint"])
        if address.scheme not in {"http", "https"} or not address.hostname or address.username or address.query:
            raise ImproperlyConfigured(f"{NAME}: endpoint must be an address such as https://s3.example.com.")
    return found
