"""The ASGI application: the data plane, health, static files and the WebSocket as plain ASGI, the rest is Django's.

Channels' ProtocolTypeRouter knows no lifespan, so `application` tells the protocols apart itself: at shutdown the
gateway has to settle what it admitted.
"""

import gc
import logging
import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "helixflow.settings")
django.setup(set_prefix=False)  # first: it loads the apps that the imports below need

from channels.routing import URLRouter
from django.conf import settings
from django.urls import re_path

from helixflow.server import bodies, cors, health, lifecycle, live, metrics, static, threads
from inference import gateway, playground

logger = logging.getLogger(__name__)

site = static.StaticFiles(bodies.Bodies(threads.ThreadedDjango(), settings.DATA_UPLOAD_MAX_MEMORY_SIZE, bodies.LARGER))
routes: dict[str, Any] = {
    r"^v1/chat/completions/?$": gateway.chat_completions,
    r"^v1/completions/?$": gateway.completions,
    r"^v1/embeddings/?$": gateway.embeddings,
    r"^dashboard/playground/completions$": playground.completions,
    r"^(v1/)?health/?$": health.health,
    r"^livez$": health.livez,
    r"^readyz$": health.readyz,
    r"^metrics$": metrics.answer,
    r"": site,
}
router = URLRouter([re_path(pattern, app) for pattern, app in routes.items()])
http = cors.allow_origins(router, settings.CORS_ORIGINS)

sockets: dict[str, Any] = {r"^dashboard/live$": live.socket, r"": live.unknown}
websockets = URLRouter([re_path(pattern, app) for pattern, app in sockets.items()])

metrics.label_models()


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await websockets(scope, receive, send)


async def lifespan(receive: Any, send: Any) -> None:
    """The gateway starts before the first request and settles after the last one."""
    await receive()
    lifecycle.enter("starting")
    try:
        await gateway.startup()
    except Exception:
        logger.exception("the gateway did not start")
        await send({"type": "lifespan.startup.failed"})
        return
    # What the start made stays for good. Left to the collector it would be searched again every few hundred requests,
    # each time for 50 ms in which nobody is answered.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # the default of 700 objects is what a dozen requests under way make
    lifecycle.enter("ready")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    lifecycle.enter("draining")
    try:
        await gateway.shutdown()
    except Exception:
        logger.exception("the gateway did not shut down cleanly")
        await send({"type": "lifespan.shutdown.failed"})
        return
    await send({"type": "lifespan.shutdown.complete"})
