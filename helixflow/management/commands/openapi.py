"""`manage.py openapi`: the OpenAPI description of /v1, as /v1/openapi.json serves it, to a file or to the terminal."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from helixflow.site.openapi import document


class Command(BaseCommand):
    help = "Write the OpenAPI description of the API."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="where to write it; without one it is printed")

    def handle(self, *args: Any, **options: Any) -> None:
        text = json.dumps(document.build(), indent=2, ensure_ascii=False) + "\n"
        if options["file"] is None:
            self.stdout.write(text, ending="")
        else:
            options["file"].write_text(text)
