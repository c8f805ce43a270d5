"""The application: middleware in its order, every route, the error handlers.

Order of the middleware; process_response runs from the bottom up, and always, so that every
answer gets its headers and its access line:

    request ──> RequestId ──> ClientAddress ──> AccessLog ──> SecurityHeaders ──> Cors
            ──> RefusedRequests ──> (routing) ──> OpsAccess ──> Methods ──> BodyGuard
            ──> Authentication ──> ReleaseGate ──> resource
"""

from __future__ import annotations

import json
import re
from functools import partial

import falcon
import falcon.routing
from falcon import media

from api.context import Request, Response
from api.descriptions import asyncapi, openapi
from api.error_handler import install_error_handlers
from api.fleet_metrics import FleetMetrics
from api.http_methods import MethodRouter
from api.middleware.access_log import AccessLog
from api.middleware.authentication import Authentication
from api.middleware.body_guard import BodyGuard
from api.middleware.client_address import ClientAddress
from api.middleware.cors import Cors
from api.middleware.methods import Methods
from api.middleware.ops_access import OpsAccess
from api.middleware.refused_requests import RefusedRequests
from api.middleware.release_gate import ReleaseGate
from api.middleware.request_id import RequestId
from api.middleware.security_headers import SecurityHeaders
from api.resources import (
    accounts,
    channels,
    descriptions,
    health,
    members,
    messages,
    password_reset,
    people,
    release,
    sessions,
    ws_tickets,
)
from api.resources.ops import drains, metrics, records, releases, users
from api.resources.ops import messages as ops_messages
from api.resources.ops import sessions as ops_sessions
from api.services import Services
from db.operators import UserAct


class RowIdConverter(falcon.routing.BaseConverter):
    """{name:id} in a route: a positive integer in its one spelling; anything else is 404."""

    def convert(self, value: str) -> int | None:
        return int(value) if re.fullmatch(r"[1-9][0-9]{0,15}", value, re.ASCII) else None


def create_app(services: Services) -> falcon.App[Request, Response]:
    settings = services.settings
    app = falcon.App(
        request_type=Request,
        response_type=Response,
        router=MethodRouter(),
        independent_middleware=True,
        middleware=[
            RequestId(settings.cloud_project),
            ClientAddress(settings.service.trusted_proxy_hops),
            AccessLog(),
            SecurityHeaders(),
            Cors(settings.service.cors_allowed_origins),
            RefusedRequests(services.pool, settings.service.cors_allowed_origins),
            OpsAccess(
                services.pool,
                services.login_attempts,
                services.ops_tokens,
                settings.auth.ops_allowed_networks,
            ),
            Methods(),
            BodyGuard(settings.service.max_request_body_bytes),
            Authentication(services.pool, services.access_tokens, settings.auth.session_idle_days),
            ReleaseGate(),
        ],
    )
    install_error_handlers(app)
    app.resp_options.media_handlers[falcon.MEDIA_JSON] = media.JSONHandler(
        dumps=partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
    )
    app.router_options.converters["id"] = RowIdConverter
    for path, resource in _routes(services).items():
        app.add_route(path, resource)
    return app


def _routes(services: Services) -> dict[str, object]:
    settings = services.settings
    fleet_metrics = FleetMetrics(services.pool)
    return {
        "/health/live": health.Live(),
        "/health/ready": health.Ready(services),
        "/openapi.json": descriptions.Description(openapi.document(settings)),
        "/asyncapi.json": descriptions.Description(asyncapi.document(settings)),
        "/auth/register": accounts.Register(services),
        "/auth/login": accounts.Login(services),
        "/auth/refresh": sessions.Refresh(services),
        "/auth/logout": sessions.Logout(services),
        "/auth/me": sessions.Me(services),
        "/auth/password": sessions.Password(services),
        "/auth/password-reset": password_reset.PasswordReset(services),
        "/auth/sessions": sessions.Sessions(services),
        "/auth/sessions/{session_id:id}": sessions.OneSession(services),
        "/auth/ws-ticket": ws_tickets.WsTickets(services),
        "/chat/channels": channels.Channels(services),
        "/chat/channels/direct": channels.Direct(services),
        "/chat/channels/{channel_id:id}/members": members.Members(services),
        "/chat/channels/{channel_id:id}/members/{user_id:id}": members.OneMember(services),
        "/chat/channels/{channel_id:id}/messages": messages.Messages(services),
        "/chat/channels/{channel_id:id}/messages/{seq:id}": messages.OneMessage(services),
        "/ops/audit": records.Audit(services),
        "/ops/audit/verify": records.AuditVerification(services),
        "/ops/channels/{channel_id:id}/messages/{seq:id}": ops_messages.OpsMessage(services),
        "/ops/release/activate": releases.Activate(services),
        "/ops/release/rollback": releases.Rollback(services),
        "/ops/release/status": releases.Status(services),
        "/ops/drains": drains.Drains(services),
        "/ops/drains/{drain_id:id}": drains.OneDrain(services),
        "/ops/drains/{drain_id:id}/cancel": drains.CancelDrain(services),
        "/ops/sessions": ops_sessions.OpsSessions(services),
        "/ops/sessions/revoke": ops_sessions.Revoke(services),
        "/ops/users": users.OpsUsers(services),
        "/ops/users/{user_id:id}/disable": users.PlainAct(services, UserAct.DISABLE),
        "/ops/users/{user_id:id}/enable": users.PlainAct(services, UserAct.ENABLE),
        "/ops/users/{user_id:id}/unlock": users.Unlock(services),
        "/ops/users/{user_id:id}/mute": users.Mute(services),
        "/ops/users/{user_id:id}/password-reset": users.PasswordReset(services),
        "/ops/metrics": metrics.PrometheusMetrics(fleet_metrics),
        "/ops/release/metrics": metrics.ReleaseMetrics(fleet_metrics),
        "/ops/security-events": records.SecurityEvents(services),
        "/release/summary": release.Summary(services),
        "/users": people.People(services),
        "/users/{user_id:id}": people.OnePerson(services),
    }
