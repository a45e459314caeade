from django.apps import AppConfig


class HelixFlowConfig(AppConfig):
    name = "helixflow"

    def ready(self) -> None:
        from helixflow import checks  # noqa: F401  # registers them; needs the settings
