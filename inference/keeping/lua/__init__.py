"""The scripts that Redis runs to keep answers. Each says at its top what it takes and what it leaves unchanged."""

from pathlib import Path


def source(*names: str) -> str:
    """Those that end in a script may begin with what it calls."""
    return "\n".join(Path(__file__).with_name(f"{name}.lua").read_text() for name in names)
