from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from accounts import api_keys  # models can't be imported before the apps are there
        from billing import exports, key_limits

        api_keys.on_rotation.append(key_limits.hand_over)
        exports.register()
