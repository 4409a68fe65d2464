"""The HTTP side: sessions by offer and answer, avatars, status, metrics and the page.

Every error is a body of `server.api.problems`, with a status that says whose fault it was.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from server.access.gate import add_access, add_ticket_route, needed_scope
from server.api import openapi
from server.api.avatar_routes import add_avatar_routes, add_upload_routes
from server.api.gateway import Gateway
from server.api.refusals import add_error_handlers
from server.api.session_routes import add_session_routes
from server.api.status_routes import add_status_routes
from server.api.websocket_api import add_media_route
from server.api.whip import add_whip_routes
from server.config import CLIENT_WEB
from server.release import server_version


def create_app(gateway: Gateway) -> FastAPI:
    """The application over a gateway, which the caller starts and stops."""
    # The interactive documentation loads its scripts from elsewhere: the page is not served.
    app = FastAPI(title="Lipwire", version=server_version(), docs_url=None, redoc_url=None)
    add_error_handlers(app)
    add_session_routes(app, gateway)
    add_whip_routes(app, gateway)
    add_media_route(app, gateway)
    add_avatar_routes(app, gateway)
    add_status_routes(app, gateway)
    if gateway.settings.max_upload_mb:
        max_bytes = gateway.settings.max_upload_mb << 20
        add_upload_routes(app, gateway.uploads, max_bytes, gateway.forget_poster)
    add_ticket_route(app, gateway.tokens)
    openapi.declare_refusals(app, lambda method, path: needed_scope(method, path) is not None)
    add_access(app, gateway.tokens, gateway.settings.allowed_origins, gateway.metrics.deny)
    if CLIENT_WEB.is_dir():
        app.mount("/", StaticFiles(directory=CLIENT_WEB, html=True), name="page")
    return app
