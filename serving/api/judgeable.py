"""Whether an interaction may be judged by who asks: it is theirs, it is recorded, and it has that choice.

The id tells all three by itself (feedback/ids.py): nothing is looked up.
"""

from __future__ import annotations

from burnish.feedback.ids import check_interaction_id, choices_of, is_recorded
from burnish.serving.api.auth import Principal
from burnish.serving.api.errors import ApiError
from burnish.serving.api.service import Service


def check_own(service: Service, who: Principal, interaction_id: str, param: str) -> None:
    if not check_interaction_id(service.secret, who.tenant, interaction_id):
        message = (
            f"No interaction '{interaction_id}' was given to this key."
            " Send the id of a completion that a key of this tenant received."
        )
        raise ApiError(404, message, param=param, code="interaction_not_found")


def check_recorded(interaction_id: str, param: str) -> None:
    if not is_recorded(interaction_id):
        message = (
            f"'{interaction_id}' was answered with store: false or X-No-Training: it is not recorded,"
            " so there is nothing to learn from feedback on it. Leave both out of chats to be judged."
        )
        raise ApiError(409, message, param=param, code="interaction_not_recorded")


def check_choice(interaction_id: str, choice: int, param: str) -> None:
    choices = choices_of(interaction_id)
    if choices is not None and choice >= choices:
        message = f"Invalid value for '{param}': this interaction has {choices} choices, from 0."
        raise ApiError(400, message, param=param, code="invalid_value")
