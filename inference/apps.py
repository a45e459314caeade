from django.apps import AppConfig


class InferenceConfig(AppConfig):
    name = "inference"

    def ready(self) -> None:
        from inference import exports  # models can't be imported before the apps are there

        exports.register()
