from django.apps import AppConfig


class HelixFlowConfig(AppConfig):
    name = "helixflow"
    verbose_name = "Status page"  # in the admin, where its incidents are

    def ready(self) -> None:
        from helixflow import checks  # noqa: F401  # registers them; needs the settings
