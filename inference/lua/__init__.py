"""The scripts that Redis runs. Each says at its top what it takes and what it answers."""

from pathlib import Path


def source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()
