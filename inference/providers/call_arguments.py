"""Arguments of tool calls in a conversation: a text in OpenAI's words, an object in most others'."""

from typing import Any, Final

import msgspec

from inference.providers.adapter import Unsupported

MOST_VALUES: Final = 200_000

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Arguments:
    """Those of one request. What is read shares a limit, since it takes the time of the event loop: not of bytes, as
    with the schemas of tools, for conversations hold whole files that models wrote."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def read(self, text: str, param: str) -> dict[str, Any]:
        """Some clients send nothing at all for no arguments. Raises Unsupported."""
        self._left -= text.count("[") + text.count("{") + text.count(",")
        if self._left < 0:
            problem = "so many values in the arguments of all tool calls"
            raise Unsupported(param, f"This model's provider does not support {problem}.")
        try:
            return _decode(text or "{}")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            problem = "arguments that are not a JSON object"
            raise Unsupported(param, f"This model's provider does not support {problem}.") from None
