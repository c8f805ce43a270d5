"""The metrics, as JSON and for Prometheus. Polling them is neither audited nor an event."""

from __future__ import annotations

import falcon

from api.context import Request, Response
from api.fleet_metrics import FleetMetrics
from api.prometheus_metrics import families
from rules.prometheus import CONTENT_TYPE, exposition


class ReleaseMetrics:
    """GET /ops/release/metrics"""

    for_operators = True

    def __init__(self, metrics: FleetMetrics) -> None:
        self._metrics = metrics

    def on_get(self, req: Request, resp: Response) -> None:
        resp.send_json(200, self._metrics.read())


class PrometheusMetrics:
    """GET /ops/metrics"""

    for_operators = True

    def __init__(self, metrics: FleetMetrics) -> None:
        self._metrics = metrics

    def on_get(self, req: Request, resp: Response) -> None:
        resp.status = falcon.HTTP_200
        resp.content_type = CONTENT_TYPE
        resp.text = exposition(families(self._metrics.read()))
