"""Which methods a resource answers: those it defines, HEAD wherever GET, and OPTIONS."""

from __future__ import annotations

from typing import Any

from falcon import constants
from falcon.routing import CompiledRouter
from falcon.routing.util import map_http_methods


class MethodRouter(CompiledRouter):
    """RFC 9110, 9.1: GET and HEAD belong together. falcon leaves the body away by itself."""

    def map_http_methods(self, resource: object, **kwargs: Any) -> Any:
        methods: dict[str, Any] = dict(super().map_http_methods(resource, **kwargs))
        if "GET" in methods:
            methods.setdefault("HEAD", methods["GET"])
        return methods


def allowed_methods(resource: object) -> list[str]:
    """For the Allow header; OPTIONS is answered for every resource."""
    defined = set(map_http_methods(resource)) & set(constants.HTTP_METHODS)
    return sorted(defined | {"OPTIONS"} | ({"HEAD"} if "GET" in defined else set()))
