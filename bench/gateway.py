"""HelixFlow as it is measured: its real web process, PostgreSQL and Valkey, a real key, and a limit out of reach."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.nginx import MODEL
from bench.processes import ROOT, Processes, manage, pinned
from helixflow.stack import embedded

STREAM_MODEL = f"{MODEL}-sse"
PACED_MODEL = f"{MODEL}-paced"
CLOUDS_MODEL = f"{MODEL}-clouds"
NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Gateway:
    url: str
    key: str
    pid: int


def start(
    processes: Processes,
    folder: Path,
    *,
    upstream: str,
    core: int,
    other_core: int,
    paced: str = "",
    clouds: Sequence[str] = (),
) -> Gateway:
    """One web process on ``core``, its servers on ``other_core`` with the load, as a machine of its own would be.

    ``clouds`` are the deployments of one more model.
    """
    port = embedded.free_port()
    environment = _environment(folder, port) | {
        "DATABASE_URL": processes.service(embedded.postgresql(folder, port=embedded.free_port()), other_core),
        "REDIS_URL": processes.service(embedded.valkey(folder, port=embedded.free_port()), other_core),
    }
    manage(environment, "migrate", "--verbosity", "0")
    os.environ.update(environment)
    alone = {MODEL: f"{upstream}/plain", STREAM_MODEL: f"{upstream}/sse", PACED_MODEL: paced or upstream}
    key = _seed({model: [url] for model, url in alone.items()} | ({CLOUDS_MODEL: clouds} if clouds else {}))
    command = [sys.executable, str(ROOT / "manage.py"), "web", "--workers", "1"]
    process = processes.start(pinned(core, *command), environment=environment)
    processes.listening(process, port)
    return Gateway(f"http://127.0.0.1:{port}/v1/chat/completions", key, process.pid)


def start_meter(processes: Processes, core: int) -> None:
    """As `manage.py up` does beside the web process."""
    processes.start(pinned(core, sys.executable, str(ROOT / "manage.py"), "meter"))


def _environment(folder: Path, port: int) -> dict[str, str]:
    return os.environ | {
        "HELIXFLOW_ENV": "development",
        "HELIXFLOW_DATA_DIR": str(folder),
        "HELIXFLOW_HOST": "127.0.0.1",
        "HELIXFLOW_PORT": str(port),
        "HELIXFLOW_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "HELIXFLOW_WEB_PROCESSES": "1",
        "HELIXFLOW_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "helixflow.settings",
    }


def _seed(models: Mapping[str, Sequence[str]]) -> str:
    """An organization, its key's secret, and models at the addresses given."""
    import django

    django.setup()  # settings are read from the environment made above, so no model can be imported before
    from accounts import api_keys, services
    from billing.models import Plan, Subscription
    from inference.models import Deployment, Model, Provider

    user = services.register(username="bench", email="bench@example.com", password="correct horse 42")
    organization = user.memberships.get().organization
    plan, _ = Plan.objects.get_or_create(slug="bench", defaults={"name": "Bench"})
    limits = {"requests_per_minute": NO_LIMIT, "requests_per_month": NO_LIMIT}
    Subscription.objects.update_or_create(organization=organization, defaults={"plan": plan, **limits})
    for name, urls in models.items():
        model = Model.objects.create(name=name, owned_by="bench")
        for number, url in enumerate(urls):
            provider = Provider.objects.create(name=f"{name}-{number}", base_url=f"{url}/v1")
            Deployment.objects.create(name=provider.name, model=model, provider=provider, upstream_model=MODEL)
    _, secret = api_keys.create(organization=organization, user=user, name="bench")
    return secret
