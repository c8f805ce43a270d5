"""The usual way with FastAPI: SQLAlchemy's async ORM, PyJWT, and the session read on every call.

It reads Gatehouse's own tables, so both do the same work on the same rows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, ClassVar

import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel
from sqlalchemy import URL, DateTime, ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship

engine = create_async_engine(
    URL.create(
        "postgresql+psycopg",
        host=os.environ["PGHOST"],
        port=int(os.environ["PGPORT"]),
        database=os.environ["PGDATABASE"],
        username=os.environ["PGUSER"],
        password=os.environ["PGPASSWORD"],
    ),
    pool_size=16,
)
Sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    display_name: Mapped[str]
    is_admin: Mapped[bool]
    disabled_at: Mapped[datetime | None]


class UserSession(Base):
    __tablename__ = "user_sessions"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime]
    idle_expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    user: Mapped[User] = relationship()


class UserOut(BaseModel):
    id: int
    email: str
    display_name: str
    is_admin: bool


class MeOut(BaseModel):
    user: UserOut
    session_id: int
    session_expires_at: datetime


async def database() -> AsyncIterator[AsyncSession]:
    async with Sessions() as session:
        yield session


async def live_session(
    db: Annotated[AsyncSession, Depends(database)],
    authorization: Annotated[str, Header()],
) -> UserSession:
    try:
        claims = jwt.decode(
            authorization.removeprefix("Bearer "),
            os.environ["JWT_SECRET"],
            algorithms=["HS256"],
            audience="gatehouse-client",
            issuer="gatehouse",
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error
    query = (
        select(UserSession)
        .options(joinedload(UserSession.user))
        .where(UserSession.id == int(claims["sid"]))
    )
    session = (await db.execute(query)).scalar_one_or_none()
    now = datetime.now().astimezone()
    if session is None or session.revoked_at or session.user.disabled_at:
        raise HTTPException(401)
    if session.expires_at <= now or session.idle_expires_at <= now:
        raise HTTPException(401)
    return session


app = FastAPI()


@app.get("/auth/me")
async def me(session: Annotated[UserSession, Depends(live_session)]) -> MeOut:
    user = UserOut.model_validate(session.user, from_attributes=True)
    return MeOut(user=user, session_id=session.id, session_expires_at=session.expires_at)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
