"""The vocabulary: what happened, what someone thought of it, and that they took it back.

Three event types, each with a JSON Schema of its own (feedback/schemas). They only ever grow: a
new field has a default, so events written years ago still parse; fields that a newer writer added
are passed over by an older reader. `encode` and `decode` are the way to and from the stream:
CloudEvents in binary mode, attributes in `ce_*` headers and the body as JSON.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal, Self

from burnish.feedback.contract import FEEDBACK, INTERACTIONS
from burnish.feedback.errors import KeyDestroyed, UnknownEvent
from burnish.feedback.judgements import Place, event_id_of, place_of
from burnish.feedback.ranges import Count, Duration, Id, Label, Line, Microseconds, Number, Token
from burnish.feedback.stream.record import DESTROYED, SEALED, StreamRecord
from cloudevents.core.bindings import kafka as binary_mode
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.v1.event import CloudEvent
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

SOURCE = "burnish"

Signal = Literal["copied", "regenerated", "edited", "abandoned", "followup"]
SIGNALS = ("copied", "regenerated", "edited", "abandoned", "followup")
PREFERENCES = ("better", "worse", "tie")
JudgementName = Literal["thumbs", "score", "comment", "correction", "signal", "preference"]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


def now() -> datetime:
    return datetime.now(UTC)


def microseconds(time: datetime) -> int:
    """Since the epoch, which is how times are compared exactly."""
    return (time - _EPOCH) // _TICK


def time_of(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _TICK


def later(time: datetime, than: datetime | None) -> datetime:
    """`time`, or a microsecond after `than` where the clock has not come that far: what a hybrid
    logical clock does (Kulkarni et al., 2014), so that a clock set back reorders nothing."""
    return time if than is None or time > than else than + _TICK


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    topic: ClassVar[str]

    id: Id
    time: AwareDatetime = Field(default_factory=now)
    tenant: Label

    @property
    def key(self) -> str:
        """What the stream orders by: all events with one key keep their order."""
        raise NotImplementedError

    @property
    def event_id(self) -> str:
        """Unique among all events of all tenants: consumers drop what they have already seen."""
        raise NotImplementedError


class Completion(BaseModel):
    """One of the `n` answers to a prompt, as the policy sampled it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: Count
    token_ids: list[Token]
    logprobs: list[FiniteFloat] = []
    """Per token, in nats, of the model's own distribution."""
    processed_logprobs: list[FiniteFloat] = []
    """Per token, in nats, of the distribution that was sampled from (temperature, top-p, ...)."""
    text: str
    finish_reason: str
    tool_calls: list[dict[str, Any]] | None = None


class MemoryUsed(BaseModel):
    """The view of a session that a prompt was answered from: enough to see it again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    session: Label
    version: Count
    plan: Label | None = None
    """The compaction in force, or None while there was none."""
    cursors: list[str] = []


class BestOf(BaseModel):
    """How the answers of an interaction were chosen among candidates that the policy sampled: by their
    scores under a reward model: what it expects, or one draw of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    candidates: Count
    """As many as were asked for."""
    chosen: list[Count] = []
    """Of each completion, which candidate it was, in the order sampled."""
    reward_sha256: Label | None = None
    draw: Count | None = None
    """None: the scores are what the reward model expects."""
    scores: list[FiniteFloat | None] = []
    """P(liked) of each candidate; None for one that was not to be chosen for it."""
    reason: Line | None = None
    """Why nothing was chosen, and the first were given."""


class Arm(BaseModel):
    """Where a canary had the end user whom an interaction answered; other interactions have none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Literal["champion", "challenger"]
    challenger: Count
    """The version that was tried."""
    subject: Label
    """Tells the users of one canary apart: a salted hash, which names nobody."""


class InteractionEvent(_Event):
    """One prompt and its completions, as served."""

    type: ClassVar[str] = "burnish.interaction.v1"
    topic: ClassVar[str] = INTERACTIONS

    user: Label | None = None
    session_id: Label | None = None
    policy: Label
    version: Count
    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] | None = None
    prompt_ids: list[Token]
    completions: list[Completion]
    sampling: dict[str, Any] = {}
    best_of: BestOf | None = None
    memories: list[str] = []
    memory: MemoryUsed | None = None
    arm: Arm | None = None
    seconds: Duration | None = None
    """From the request to its last token."""
    metadata: dict[str, Any] = {}

    @property
    def key(self) -> str:
        return self.id

    @property
    def event_id(self) -> str:
        return self.id


class FeedbackEvent(_Event):
    """One judgement by one user on an interaction or on a whole session.

    Values: thumbs "up" or "down" (true, 1 and "accept" mean up; false, 0, -1 and "reject" mean
    down), score a number from 0 to 1, comment and correction a text, signal one of SIGNALS, preference one of
    PREFERENCES: how this answer is beside another one to the same prompt, which `metadata` names as `over`.
    """

    type: ClassVar[str] = "burnish.feedback.v1"
    topic: ClassVar[str] = FEEDBACK

    user: Label | None = None
    interaction_id: Label | None = None
    session_id: Label | None = None
    choice: Count = 0
    name: JudgementName
    value: Number | str
    rationale: str | None = None
    metadata: dict[str, Any] = {}
    key_id: Label | None = None
    """Which API key sent it, as a digest; None without keys, and in older events."""
    revision: Microseconds = 0
    """Tells the bodies sent under one id apart: microseconds since the epoch of `time`, which the
    spool sets. Older events count from 0. Of one id the last by (`time`, `revision`) stands,
    whichever server accepted it."""

    @model_validator(mode="before")
    @classmethod
    def _normalise_value(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and "value" in fields and "name" in fields:
            return {**fields, "value": normal_value(fields["name"], fields["value"])}
        return fields

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.interaction_id is None) == (self.session_id is None):
            raise ValueError("exactly one of interaction_id and session_id is needed")
        return self

    @property
    def target(self) -> str:
        return self.interaction_id or self.session_id or ""

    @property
    def key(self) -> str:
        return self.target

    @property
    def event_id(self) -> str:
        return event_id_of(self.tenant, self.id, self.revision)

    def accepted(self, time: datetime) -> Self:
        """The same judgement as accepted at `time`."""
        return self.model_copy(update={"time": time, "revision": microseconds(time)})

    @property
    def place(self) -> Place:
        """Where one judgement stands at a time: the next one here replaces this one."""
        return place_of(
            self.tenant, self.session_id, self.interaction_id, self.choice, self.user, self.name
        )


class RetractionEvent(_Event):
    """Someone took a judgement back: all that was accepted under that feedback id until `time`,
    even what arrives later. A judgement accepted afterwards counts again."""

    type: ClassVar[str] = "burnish.retraction.v1"
    topic: ClassVar[str] = FEEDBACK

    feedback_id: Id
    user: Label | None = None
    """Who gave the judgement, where that is known."""
    interaction_id: Label | None = None
    session_id: Label | None = None

    @property
    def key(self) -> str:
        return self.interaction_id or self.session_id or self.feedback_id

    @property
    def event_id(self) -> str:
        return f"{self.tenant}/{self.id}"


Event = InteractionEvent | FeedbackEvent | RetractionEvent
EVENTS: Mapping[str, type[Event]] = {
    event.type: event for event in (InteractionEvent, FeedbackEvent, RetractionEvent)
}

# True and 1.0 are the same key as 1, False and 0.0 the same as 0.
_THUMBS: Mapping[str | float, str] = {
    **dict.fromkeys(("up", "accept", "true", 1), "up"),
    **dict.fromkeys(("down", "reject", "false", 0, -1), "down"),
}


def normal_value(name: Any, value: Any) -> Any:
    """The one spelling that is stored. Raises ValueError naming what is allowed."""
    match name:
        case "thumbs":
            word = value.strip().lower() if isinstance(value, str) else value
            if not isinstance(word, str | int | float) or word not in _THUMBS:
                raise ValueError('thumbs must be "up" or "down"')
            return _THUMBS[word]
        case "score":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError("score must be a number from 0 to 1")
            if not math.isfinite(value) or not 0 <= value <= 1:
                raise ValueError("score must be a number from 0 to 1")
            return float(value)
        case "comment" | "correction":
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} must be a text that is not empty")
            return value
        case "signal":
            if value not in SIGNALS:
                raise ValueError(f"signal must be one of {', '.join(SIGNALS)}")
            return value
        case "preference":
            if value not in PREFERENCES:
                raise ValueError(f"preference must be one of {', '.join(PREFERENCES)}")
            return value
        case _:
            return value  # an unknown name is the name field's own error


def encode(event: Event, topic: str | None = None, key: str | None = None) -> StreamRecord:
    """The event as it travels: CloudEvents 1.0, binary mode."""
    key = event.key if key is None else key
    attributes = {
        "id": event.event_id,
        "source": SOURCE,
        "type": event.type,
        "specversion": "1.0",
        "time": event.time,
        "datacontenttype": "application/json",
        "partitionkey": key,
    }
    # Pydantic writes the body by itself, much faster than by way of a dict.
    body = event.model_dump_json(exclude_none=True).encode()
    message = binary_mode.to_binary_event(CloudEvent(attributes, body))
    headers = {name: value.decode() for name, value in message.headers.items()}
    return StreamRecord(topic=topic or event.topic, key=key, value=message.value, headers=headers)


def decode(record: StreamRecord) -> Event:
    """The event in a record. Raises UnknownEvent for anything that is not one of ours, and KeyDestroyed for
    one that was."""
    if sealed := record.headers.get(SEALED):
        if sealed == DESTROYED:
            raise KeyDestroyed(record.event_id)
        raise UnknownEvent(f"sealed under the key {sealed}, which is not in Redis or does not fit")
    headers = {name: value.encode() for name, value in record.headers.items()}
    try:
        # The attributes are checked by the CloudEvents model, the body by ours.
        message = binary_mode.KafkaMessage(headers=headers, key=record.key, value=b"null")
        kind = binary_mode.from_binary_event(message).get_type()
    except (BaseCloudEventException, ValueError) as error:
        raise UnknownEvent(f"no CloudEvent: {error}") from error
    if kind not in EVENTS:
        raise UnknownEvent(f"unknown event type {kind!r}")
    try:
        return EVENTS[kind].model_validate_json(record.value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise UnknownEvent(f"{kind}: {where}: {first['msg']}") from error
