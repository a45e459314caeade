"""Azure OpenAI: OpenAI's words under Azure's addresses and header.

A deployment's ``upstream_model`` is the name that was given to it in Azure. With an API version (2024-10-21 or newer:
older ones don't know max_completion_tokens or report a stream's usage) it stands in the path; without one, Azure's v1
API takes it as the model.
"""

import re
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import msgspec

from inference.answers import BadAnswer
from inference.providers.adapter import Account, Listing
from inference.providers.openai import OpenAIAdapter
from inference.upstream import header_lines

_API_PATH: Final = re.compile(r"(/openai(/v1)?)?/*\Z")  # which people copy along with the endpoint
_API_VERSION: Final = re.compile(r"[0-9A-Za-z.-]+\Z")


class AzureAdapter(OpenAIAdapter):
    default_base_url = ""

    def __init__(self, account: Account) -> None:
        if not account.base_url:
            raise ValueError("Azure OpenAI needs its endpoint as the base URL: https://NAME.openai.azure.com.")
        if not account.credential:
            raise ValueError("Azure OpenAI needs an API key.")
        if account.api_version and not _API_VERSION.match(account.api_version):
            raise ValueError("The API version must be one such as 2024-10-21.")
        super().__init__(replace(account, base_url=_API_PATH.sub("", account.base_url)))

    def path(self, endpoint: str, upstream_model: str) -> str:
        version = self.account.api_version
        if not version:
            return f"/openai/v1{endpoint}"
        return f"/openai/deployments/{quote(upstream_model, safe='')}{endpoint}?api-version={version}"

    async def listing(self) -> Listing | None:
        """Models that the resource may deploy; an API key can't list what is deployed, and under which name."""
        version = self.account.api_version
        path = f"/openai/models?api-version={version}" if version else "/openai/v1/models"
        return Listing(self.origin, path, self.headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            models = msgspec.json.decode(body, type=_Listed).data
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None
        return list(dict.fromkeys(model.id for model in models if model.serves))

    def _authorization(self) -> bytes:
        return header_lines({"api-key": self.account.credential})


class _Model(msgspec.Struct):
    id: str
    capabilities: dict[str, Any] | None = None

    @property
    def serves(self) -> bool:
        """Whether it answers requests. Images and speech are in the list, too."""
        able = self.capabilities
        return not able or any(able.get(name) for name in ("chat_completion", "completion", "embeddings"))


class _Listed(msgspec.Struct):
    data: list[_Model]
