from django.apps import AppConfig


class WebhooksConfig(AppConfig):
    name = "webhooks"

    def ready(self) -> None:
        from accounts import api_keys  # models can't be imported before the apps are there
        from webhooks import exports, key_filters

        api_keys.on_rotation.append(key_filters.hand_over)
        exports.register()
