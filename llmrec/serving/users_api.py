"""``/v1/users/{id}``: what is known of a person, what the shop says of them; forgetting them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from llmrec.errors import ConfigError, LlmrecError
from llmrec.serving.batching import Batcher
from llmrec.serving.limits import MAX_NAME, MAX_VALUE, check_context
from llmrec.serving.live import LiveHistories
from llmrec.serving.request import check_text
from llmrec.serving.store.people import Profile

Json = dict[str, Any]


class UnknownUserError(LlmrecError):
    """Nothing is known of a user."""


class ProfileBody(BaseModel):
    """Body of ``PUT`` and ``PATCH``: what a click model may read beside a request's context."""

    model_config = ConfigDict(extra="forbid")

    profile: dict[str, Any] = Field(default_factory=dict, description="names and values")
    membership: str | None = Field(None, max_length=MAX_VALUE)

    def checked(self) -> Profile:
        """The same, without names whose value is null.

        Raises:
            ConfigError: beginning with the field that is wrong.
        """
        check_text("profile", self.profile)
        check_text("membership", self.membership)
        check_context(self.profile, "profile")
        return Profile(_without_nulls(self.profile), self.membership)

    def merged(self, known: Profile) -> Profile:
        """What was known with the fields of this in place; null takes a name out.

        Raises:
            ConfigError: beginning with the field that is wrong.
        """
        said = "membership" in self.model_fields_set
        body = ProfileBody(
            profile=known.profile | self.profile,
            membership=self.membership if said else known.membership,
        )
        return body.checked()


def users_router(
    live: LiveHistories, head: Callable[[], Json], batcher: Batcher[Any, Any]
) -> APIRouter:
    """The routes.

    Args:
        live: knows the people.
        head: model and version of the catalogue, of every answer.
        batcher: answers requests; somebody is forgotten between two batches, so that none that read
            the history before is logged, or cached, after.
    """
    router = APIRouter(prefix="/v1/users")

    @router.get("/{user_id:path}")
    def user(user_id: str) -> JSONResponse:
        found = live.describe(_checked(user_id))
        if found is None:
            raise UnknownUserError(f"user: nothing is known of {user_id!r}")
        return JSONResponse(head() | found)

    @router.put("/{user_id:path}")
    def put(user_id: str, body: ProfileBody) -> JSONResponse:
        return answer(user_id, live.set_profile(_checked(user_id), lambda _: body.checked()))

    @router.patch("/{user_id:path}")
    def patch(user_id: str, body: ProfileBody) -> JSONResponse:
        return answer(user_id, live.set_profile(_checked(user_id), body.merged))

    @router.delete("/{user_id:path}")
    async def delete(user_id: str) -> JSONResponse:
        name = _checked(user_id)
        removed = await batcher.between(lambda: live.forget(name))
        return JSONResponse(head() | {"user_id": user_id, "removed": removed})

    def answer(user_id: str, said: Profile) -> JSONResponse:
        body = {"user_id": user_id, "profile": said.profile, "membership": said.membership}
        return JSONResponse(head() | body)

    return router


def _checked(user_id: str) -> str:
    """A user's name that can be stored.

    Raises:
        ConfigError: if it cannot.
    """
    check_text("user", user_id)
    if not 0 < len(user_id) <= MAX_NAME:
        raise ConfigError(f"user: a name has 1 to {MAX_NAME} characters")
    return user_id


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
