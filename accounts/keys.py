"""The format of API keys (contract §4). Pure: no framework, no database.

``hflow_`` + 43 base62 characters (256 random bits) + 6 base62 characters of CRC-32 over all that precedes.
"""

import secrets
import zlib
from typing import Final

from helixflow.lib.ids import encode_base62

PREFIX: Final = "hflow_"
SECRET_LENGTH: Final = 43
CHECKSUM_LENGTH: Final = 6
LENGTH: Final = len(PREFIX) + SECRET_LENGTH + CHECKSUM_LENGTH


def generate() -> str:
    return from_number(secrets.randbits(256))


def from_number(number: int) -> str:
    """The key that holds these 256 bits."""
    body = PREFIX + encode_base62(number, SECRET_LENGTH)
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether form and checksum are right: a typo is refused without a look-up."""
    return (
        len(key) == LENGTH
        and key.startswith(PREFIX)
        and key.isascii()
        and key[len(PREFIX) :].isalnum()
        and key[-CHECKSUM_LENGTH:] == _checksum(key[:-CHECKSUM_LENGTH])
    )


def hint(key: str) -> str:
    """What may be shown of a key after its creation: ``hflow_Ab12…Yz89``."""
    return f"{key[: len(PREFIX) + 4]}…{key[-4:]}"


def _checksum(body: str) -> str:
    return encode_base62(zlib.crc32(body.encode("ascii")), CHECKSUM_LENGTH)
