"""/v1/policies: what each policy serves, its versions and their history; promote, rollback, pause and resume.

Reading takes any key, moving the champion takes the scope "admin". A move goes through the
registry, like one made in MLflow's page, and is served when the call returns, if it can be.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from burnish.feedback.audit import Entry
from burnish.feedback.ranges import Label, Line, Positive
from burnish.serving.api.alarms import open_alarms
from burnish.serving.api.auth import Auth, Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.json_body import Route
from burnish.serving.api.service import Service, service_of
from burnish.serving.live import PolicyStatus
from burnish.serving.registry import (
    NoCanary,
    NothingToRollBack,
    PolicyVersion,
    RegistryError,
    UnknownVersion,
)
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict

T = TypeVar("T")
AUDITED = 2000  # of the audit log's newest lines, looked through for reasons
SAME_MOVE_S = 5.0  # between a move and its line


class Promotion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Positive
    why: Line = ""  # for the audit log


class Reason(BaseModel):
    model_config = ConfigDict(extra="forbid")

    why: Line = ""  # for the audit log


def router(auth: Auth) -> APIRouter:
    api = APIRouter(prefix="/v1/policies", tags=["policies"], route_class=Route)
    reader, mover = Depends(auth.require()), Depends(auth.require("admin"))

    @api.get("")
    async def policies(request: Request, _: Principal = reader) -> dict[str, Any]:
        service = service_of(request)
        live = [_live(service, state) for state in service.policies.status()]
        return {"object": "list", "data": live}

    @api.get("/{name}")
    async def policy(
        request: Request,
        name: Label,
        limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
        who: Principal = reader,
    ) -> dict[str, Any]:
        """All versions and moves of the champion, or the latest `limit` of each, oldest first. With the scope
        "admin" moves say why, as the audit log of this server has it."""
        service = service_of(request)
        state = find_policy(service, name)
        found = await registry_call(service.registry.overview, name, limit)
        moves = [asdict(move) for move in found.history[-limit if limit else None :]]
        if "admin" in who.scopes:
            moves = await asyncio.to_thread(_with_reasons, service, name, moves)
        return {
            **_live(service, state),
            "paused": None if found.paused is None else asdict(found.paused),
            "versions": [_version(version, brief=True) for version in found.versions],
            "history": moves,
        }

    @api.get("/{name}/versions/{version}")
    async def version(
        request: Request,
        name: Label,
        version: Positive,
        votes: Annotated[int | None, Query(ge=0, le=1000)] = None,
        who: Principal = reader,
    ) -> dict[str, Any]:
        """Of the judgements it was learnt from, those of the caller's tenant; all with "admin". `votes` says how
        many they are; asked for so many `votes`, no more are listed. `mlflow` is its page there, where that is
        known."""
        service = service_of(request)
        find_policy(service, name)
        shown = _version(await registry_call(service.registry.get, name, version))
        if links := service.settings.mlflow_links:
            shown["mlflow"] = f"{links}/#/models/{quote(name, safe='')}/versions/{version}"
        if "admin" not in who.scopes:
            shown["lineage"] = _own(shown["lineage"], who.tenant)
        learnt = shown["lineage"].get("feedback_ids", [])
        shown["votes"] = len(learnt)
        if votes is not None and len(learnt) > votes:
            shown["lineage"]["feedback_ids"] = learnt[:votes]
        return shown

    @api.post("/{name}/promote")
    async def promote(
        request: Request, name: Label, body: Promotion, who: Principal = mover
    ) -> dict[str, Any]:
        """A person may promote whatever is open: `alarms` says what is, and so does the audit log."""
        service = service_of(request)
        find_policy(service, name)
        actor, alarms = who.actor, await open_alarms(service, name)
        spite = [f"open alarms: {', '.join(alarms)}"] if alarms else []
        why = "; ".join([body.why, *spite] if body.why else spite)
        if body.version == 1:
            # Where the model is gone altogether, its base is what there is to begin with again.
            await registry_call(service.policies.begin_anew, name)
        await registry_call(
            lambda: service.registry.promote(name, body.version, who=actor, why=why)
        )
        await service.policies.poll()
        return {**_live(service, find_policy(service, name)), "alarms": list(alarms.values())}

    @api.post("/{name}/pause")
    async def pause(
        request: Request, name: Label, body: Reason | None = None, who: Principal = mover
    ) -> dict[str, Any]:
        """Nothing is promoted by itself from now on; updates go on, and people may promote."""
        service = service_of(request)
        find_policy(service, name)
        why = body.why if body else ""
        made = await registry_call(lambda: service.registry.pause(name, who=who.actor, why=why))
        return {"policy": name, "paused": asdict(made)}

    @api.post("/{name}/resume")
    async def resume(
        request: Request, name: Label, body: Reason | None = None, who: Principal = mover
    ) -> dict[str, Any]:
        """`resumed` is false where it was not paused."""
        service = service_of(request)
        find_policy(service, name)
        why = body.why if body else ""
        resumed = await registry_call(lambda: service.registry.resume(name, who=who.actor, why=why))
        return {"policy": name, "paused": None, "resumed": resumed}

    @api.post("/{name}/rollback")
    async def rollback(
        request: Request, name: Label, body: Reason | None = None, who: Principal = mover
    ) -> dict[str, Any]:
        service = service_of(request)
        find_policy(service, name)
        actor = who.actor
        served = service.policies.served(name)
        why = body.why if body else ""
        await registry_call(
            lambda: service.registry.rollback(name, who=actor, served=served, why=why)
        )
        await service.policies.poll()
        return _live(service, find_policy(service, name))

    return api


def _with_reasons(
    service: Service, policy: str, moves: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The moves with `why`, where the audit log has one: a line about the same version, written when it moved."""
    said: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in service.audit.entries(AUDITED):
        if entry.why:
            said[entry.what, entry.about].append(entry)

    def why(move: dict[str, Any]) -> str:
        of_version = said[move["what"], f"{policy}@{move['after']}"]
        return next((e.why for e in of_version if abs(e.at - move["at"]) < SAME_MOVE_S), "")

    return [{**move, "why": why(move)} for move in moves]


async def registry_call(call: Callable[..., T], *args: Any) -> T:
    """Call the registry from a thread. Raises ApiError."""
    try:
        return await asyncio.to_thread(call, *args)
    except UnknownVersion as error:
        raise ApiError(404, str(error), param="version", code="version_not_found") from error
    except NoCanary as error:
        raise ApiError(409, str(error), code="no_canary") from error
    except NothingToRollBack as error:
        raise ApiError(409, str(error), code="nothing_to_roll_back") from error
    except RegistryError as error:
        message = f"The registry does not answer: {error}"
        raise ApiError(503, message, code="registry_unavailable", retry_after=5) from error


def find_policy(service: Service, name: str) -> PolicyStatus:
    for state in service.policies.status():
        if state.policy == name:
            return state
    message = f"There is no policy '{name}'. GET /v1/policies lists them."
    raise ApiError(404, message, param="name", code="policy_not_found")


def _own(lineage: dict[str, Any], tenant: str) -> dict[str, Any]:
    """The lineage without the ids of other tenants' events, which are `<tenant>/<id>`."""
    return {
        name: [one for one in value if str(one).startswith(f"{tenant}/")]
        if isinstance(value, list | tuple)
        else value
        for name, value in lineage.items()
    }


def _live(service: Service, state: PolicyStatus) -> dict[str, Any]:
    """`reward`: the reward model that chooses among candidates, None while there is none."""
    reward = service.rewards.of(state.policy)
    return {
        "name": state.policy,
        "object": "policy",
        "champion": state.champion,
        "challenger": state.challenger,
        "share": state.share,
        "previous": state.previous,
        "resident": list(state.resident),
        "problem": state.problem,
        "swapped_at": state.swapped_at,
        "swaps": state.swaps,
        "reward": None
        if reward is None
        else {
            "sha256": reward.notice.sha256,
            "votes": reward.notice.votes,
            "age_seconds": round(reward.age_s, 1),
        },
    }


def _version(version: PolicyVersion, brief: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "object": "policy.version",
        "ref": version.ref,
        "version": version.version,
        "parent": version.parent,
        "created_at": version.created_at,
        "aliases": list(version.aliases),
        "sha256": version.sha256,
        "base_sha256": version.base_sha256,
        "metrics": dict(version.metrics),
    }
    report = version.gate_report
    if brief:
        return shown | {"gate_passed": None if report is None else report.get("passed")}
    return shown | {"lineage": dict(version.lineage), "gate_report": report}
