"""What seeding knows of providers, their models and list prices: data alone, as of July 2026. ``seeds`` plants it.

Prices are in dollars per million tokens, of the standard tier: a start, not a promise. They are seeded once, when the
first of a model's providers is connected; from then on operators add versions in the admin site. Where a price rises
with the length of the prompt it is the lower one; where several providers have a model it is the dearest one's, for a
price belongs to the name that callers ask for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from billing.seeds import ListPrice
from inference.models import Capability, ProviderKind


@dataclass(frozen=True)
class Home:
    """A provider, as the environment may connect it. Those without models here: which ones an account there has, and
    under which names, is the operator's to say or the provider's to list."""

    kind: ProviderKind
    preset: str = ""


HOMES: Final[dict[str, Home]] = {
    "openai": Home(ProviderKind.OPENAI),
    "anthropic": Home(ProviderKind.ANTHROPIC),
    "gemini": Home(ProviderKind.GEMINI),
    "azure": Home(ProviderKind.AZURE),
    "bedrock": Home(ProviderKind.BEDROCK),
    "mistral": Home(ProviderKind.COMPATIBLE, "mistral"),
    "deepseek": Home(ProviderKind.COMPATIBLE, "deepseek"),
    "xai": Home(ProviderKind.COMPATIBLE, "xai"),
    "groq": Home(ProviderKind.COMPATIBLE, "groq"),
    "together": Home(ProviderKind.COMPATIBLE, "together"),
    "cerebras": Home(ProviderKind.COMPATIBLE, "cerebras"),
    "fireworks": Home(ProviderKind.COMPATIBLE, "fireworks"),
    "openrouter": Home(ProviderKind.COMPATIBLE, "openrouter"),
}


@dataclass(frozen=True)
class Seed:
    """``created`` in epoch seconds, as its maker published it. ``at`` has its name by provider."""

    name: str
    owned_by: str
    created: int
    context_length: int
    description: str
    at: Mapping[str, str]
    price: ListPrice | None = None

    @property
    def capabilities(self) -> list[str]:
        """By family: makers don't list them, and operators can put them right."""
        if self.name.startswith("text-embedding"):
            return [Capability.EMBEDDINGS]
        found: list[str] = [Capability.CHAT, Capability.JSON]
        if self.name not in _WITHOUT_TOOLS:
            found.append(Capability.TOOLS)
        return [*found, Capability.VISION] if self.name.startswith(_SEEING) else found


# Names that begin so are of models that take images.
_SEEING: Final = (
    *("gpt-4-turbo", "gpt-4o", "gpt-4.1", "gpt-5"),
    *("claude-", "gemini-", "mistral-medium", "grok-4.3", "kimi-"),
)
_WITHOUT_TOOLS: Final = frozenset({"smollm2-135m-instruct"})


def _day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


_Row = tuple[str, int | str, int, str, ListPrice]


def _own(maker: str, rows: tuple[_Row, ...], *, home: str = "") -> Iterator[Seed]:
    """Models that their maker serves under their own names."""
    for name, created, context_length, description, price in rows:
        at = created if isinstance(created, int) else _day(created)
        yield Seed(name, maker, at, context_length, description, {home or maker: name}, price)


SMOLLM2: Final = Seed(
    "smollm2-135m-instruct",
    "HuggingFaceTB",
    1730332800,
    8192,
    "A very small model that runs on this machine: for trying things out.",
    {},
)
# The names the reference's examples use: answered by the embedded model where nothing better is configured.
EXAMPLES: Final = ("gpt-3.5-turbo", "gpt-4")

# fmt: off
_OPENAI: Final[tuple[_Row, ...]] = (
    ("gpt-3.5-turbo", 1677610602, 16_385, "Quick, inexpensive, of an earlier generation.", ListPrice("0.50", "1.50")),
    ("gpt-4", 1687882411, 8_192, "The first of the GPT-4 family.", ListPrice("30", "60")),
    ("gpt-4-turbo", 1712361441, 128_000, "GPT-4 with a long context.", ListPrice("10", "30")),
    ("gpt-4o", 1715367049, 128_000, "Text and images, for general use.", ListPrice("2.50", "10", "1.25")),
    ("gpt-4o-mini", 1721172741, 128_000, "Text and images, small and inexpensive.", ListPrice("0.15", "0.60", "0.075")),
    ("gpt-4.1", 1744316542, 1_047_576, "Long documents, code and instructions.", ListPrice("2", "8", "0.50")),
    ("gpt-4.1-mini", 1744318173, 1_047_576, "A smaller GPT-4.1.", ListPrice("0.40", "1.60", "0.10")),
    ("gpt-4.1-nano", 1744321707, 1_047_576, "The smallest GPT-4.1.", ListPrice("0.10", "0.40", "0.025")),
    ("gpt-5", 1754425777, 400_000, "Reasons before it answers.", ListPrice("1.25", "10", "0.125")),
    ("gpt-5-mini", 1754425928, 400_000, "A smaller GPT-5.", ListPrice("0.25", "2", "0.025")),
    ("gpt-5-nano", 1754426384, 400_000, "The smallest GPT-5.", ListPrice("0.05", "0.40", "0.005")),
    ("gpt-5.2", "2025-12-11", 400_000, "Reasons as long as the question needs.", ListPrice("1.75", "14", "0.175")),
    ("gpt-5.4", "2026-03-05", 1_050_000, "Reasons over long contexts.", ListPrice("2.50", "15", "0.25")),
    ("gpt-5.4-mini", "2026-03-17", 400_000, "A smaller GPT-5.4.", ListPrice("0.75", "4.50", "0.075")),
    ("gpt-5.4-nano", "2026-03-17", 400_000, "The smallest GPT-5.4.", ListPrice("0.20", "1.25", "0.02")),
    ("gpt-5.5", "2026-04-23", 1_050_000, "The most capable of OpenAI's.", ListPrice("5", "30", "0.50")),
    ("text-embedding-3-small", 1705948997, 8_191, "Embeddings of 1,536 numbers.", ListPrice("0.02", "0")),
    ("text-embedding-3-large", 1705953180, 8_191, "Embeddings of 3,072 numbers.", ListPrice("0.13", "0")),
)
_ANTHROPIC: Final[tuple[_Row, ...]] = (
    ("claude-haiku-4-5", "2025-10-15", 200_000, "Quick and inexpensive.", ListPrice("1", "5", "0.10", "1.25")),
    ("claude-sonnet-4-5", "2025-09-29", 200_000, "Code, agents and general use.", ListPrice("3", "15", "0.30", "3.75")),
    ("claude-sonnet-4-6", "2026-02-17", 1_000_000, "Code and long contexts.", ListPrice("3", "15", "0.30", "3.75")),
    ("claude-sonnet-5", "2026-06-30", 1_000_000, "Code, agents, long contexts.", ListPrice("2", "10", "0.20", "2.50")),
    ("claude-opus-4-8", "2026-05-28", 1_000_000, "Hard questions, long tasks.", ListPrice("5", "25", "0.50", "6.25")),
)
_GOOGLE: Final[tuple[_Row, ...]] = (
    ("gemini-2.5-flash-lite", "2025-06-17", 1_048_576, "The quickest Gemini 2.5.", ListPrice("0.10", "0.40", "0.01")),
    ("gemini-2.5-flash", "2025-06-17", 1_048_576, "Quick, with reasoning.", ListPrice("0.30", "2.50", "0.03")),
    ("gemini-2.5-pro", "2025-06-17", 1_048_576, "Reasons over long contexts.", ListPrice("1.25", "10", "0.125")),
    ("gemini-3.1-flash-lite", "2026-05-07", 1_048_576, "Small and quick.", ListPrice("0.25", "1.50", "0.025")),
    ("gemini-3.5-flash", "2026-05-19", 1_048_576, "Reasons, sees and hears.", ListPrice("1.50", "9", "0.15")),
)
_MISTRAL: Final[tuple[_Row, ...]] = (
    ("mistral-small-2603", "2026-03-16", 256_000, "Small and quick.", ListPrice("0.15", "0.60")),
    ("mistral-medium-2604", "2026-04-29", 262_144, "Text and images, for general use.", ListPrice("1.50", "7.50")),
    ("mistral-large-2512", "2025-12-02", 262_144, "Large, with open weights.", ListPrice("0.50", "1.50")),
)
_DEEPSEEK: Final[tuple[_Row, ...]] = (
    ("deepseek-v4-flash", "2026-04-24", 1_000_000, "Inexpensive, with reasoning.", ListPrice("0.14", "0.28", "0.0028")),
    ("deepseek-v4-pro", "2026-04-24", 1_000_000, "Reasons before it answers.", ListPrice("0.435", "0.87", "0.003625")),
)
_XAI: Final[tuple[_Row, ...]] = (
    ("grok-4.20-0309-non-reasoning", "2026-03-09", 1_000_000, "Answers at once.", ListPrice("1.25", "2.50", "0.20")),
    ("grok-4.3", "2026-04-17", 1_000_000, "Reasons before it answers.", ListPrice("1.25", "2.50", "0.20")),
)
# fmt: on
# Open weights, which several serve, each under a name of its own.
_OPEN: Final = (
    Seed(
        "gpt-oss-20b",
        "openai",
        _day("2025-08-05"),
        131_072,
        "OpenAI's small open weights.",
        {"groq": "openai/gpt-oss-20b", "together": "openai/gpt-oss-20b"},
        ListPrice("0.075", "0.30"),
    ),
    Seed(
        "gpt-oss-120b",
        "openai",
        _day("2025-08-05"),
        131_072,
        "OpenAI's open weights.",
        {"groq": "openai/gpt-oss-120b", "together": "openai/gpt-oss-120b", "cerebras": "gpt-oss-120b"},
        ListPrice("0.35", "0.75"),
    ),
    Seed(
        "llama-3.1-8b-instruct",
        "meta",
        _day("2024-07-23"),
        131_072,
        "Meta's small open weights.",
        {"groq": "llama-3.1-8b-instant"},
        ListPrice("0.05", "0.08"),
    ),
    Seed(
        "llama-3.3-70b-instruct",
        "meta",
        _day("2024-12-06"),
        131_072,
        "Meta's open weights.",
        {"groq": "llama-3.3-70b-versatile", "together": "meta-llama/Llama-3.3-70B-Instruct-Turbo"},
        ListPrice("0.88", "0.88"),
    ),
    Seed(
        "kimi-k2.6",
        "moonshotai",
        _day("2026-04-21"),
        262_144,
        "Moonshot AI's open weights.",
        {"together": "moonshotai/Kimi-K2.6"},
        ListPrice("1.20", "4.50", "0.20"),
    ),
    Seed(
        "glm-5.1",
        "zai-org",
        _day("2026-04-07"),
        202_752,
        "Z.ai's open weights.",
        {"together": "zai-org/GLM-5.1"},
        ListPrice("1.40", "4.40"),
    ),
)
MODELS: Final = (
    *_own("openai", _OPENAI),
    *_own("anthropic", _ANTHROPIC),
    *_own("google", _GOOGLE, home="gemini"),
    *_own("mistral", _MISTRAL),
    *_own("deepseek", _DEEPSEEK),
    *_own("xai", _XAI),
    *_OPEN,
)
