"""What resources are given from outside: settings, the pool, the signer, the hasher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api.login_attempts import LoginAttempts
from api.password_hashing import PasswordHasher
from db.connections import SyncPool
from db.sessions import SessionTerms
from rules.access_tokens import AccessTokens
from rules.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Built once in api/__main__.py, or by a test. `is_draining` turns true on SIGTERM."""

    settings: Settings
    pool: SyncPool
    probe_pool: SyncPool  # of /health/ready alone
    access_tokens: AccessTokens
    ops_tokens: tuple[tuple[str, bytes], ...]
    hasher: PasswordHasher
    login_attempts: LoginAttempts
    is_draining: Callable[[], bool]

    def session_terms(self, *, is_admin: bool) -> SessionTerms:
        auth = self.settings.auth
        return SessionTerms(
            ttl_days=auth.session_ttl_days_admin if is_admin else auth.session_ttl_days,
            idle_days=auth.session_idle_days,
            max_per_account=auth.max_sessions_per_account,
        )
