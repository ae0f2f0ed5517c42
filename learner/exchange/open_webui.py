"""Open WebUI's exports: feedbacks with their snapshots of the chat, and chats with annotations.

A chat keeps its messages by id, each with the id of its parent; what led to an answer is the way from it
to the root. A rating is 1 or -1; `details.rating` (1 to 10), where there is one, becomes a score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from burnish.learner.exchange.turns import Opinion, RowError, Turn, moment_of, text_of


def is_ours(row: Mapping[str, Any]) -> bool:
    return "snapshot" in row or isinstance(row.get("chat"), Mapping)


def turns(row: Mapping[str, Any]) -> Iterator[Turn]:
    """The judged answers of a feedback, or of a chat. Raises RowError."""
    if "snapshot" in row:
        yield _feedback(row)
        return
    messages = _messages(row["chat"], "chat")
    for id_, message in messages.items():
        if message.get("role") == "assistant" and message.get("annotation"):
            opinions = _opinions(
                message["annotation"], row.get("user_id"), message.get("timestamp")
            )
            yield _turn(messages, id_, row, opinions)


def _feedback(row: Mapping[str, Any]) -> Turn:
    snapshot = row.get("snapshot")
    chat = snapshot.get("chat") if isinstance(snapshot, Mapping) else None
    if not isinstance(chat, Mapping):
        raise RowError("snapshot.chat: the chat of the feedback is missing")
    messages = _messages(chat.get("chat"), "snapshot.chat.chat")
    id_ = str((row.get("meta") or {}).get("message_id") or "")
    data = row.get("data")
    if not isinstance(data, Mapping):
        raise RowError("data: the rating is missing")
    opinions = _opinions(data, row.get("user_id"), row.get("updated_at"))
    return _turn(messages, id_, {**chat, "user_id": row.get("user_id")}, opinions)


def _messages(chat: Any, where: str) -> Mapping[str, Mapping[str, Any]]:
    history = chat.get("history") if isinstance(chat, Mapping) else None
    messages = history.get("messages") if isinstance(history, Mapping) else None
    if not isinstance(messages, Mapping):
        raise RowError(f"{where}.history.messages: the messages are missing")
    return messages


def _turn(
    messages: Mapping[str, Mapping[str, Any]],
    id_: str,
    chat: Mapping[str, Any],
    opinions: tuple[Opinion, ...],
) -> Turn:
    judged = messages.get(id_)
    if judged is None:
        raise RowError(f"meta.message_id: the chat has no message {id_!r}")
    way, seen, parent = [], {id_}, judged.get("parentId")
    while parent:
        if parent in seen or parent not in messages:
            raise RowError(f"parentId: {parent!r} leads nowhere")
        seen.add(parent)
        way.append(messages[parent])
        parent = messages[parent].get("parentId")
    asked = [
        {"role": m.get("role"), "content": text_of(m.get("content"), "content")}
        for m in reversed(way)
    ]
    if not asked:
        raise RowError("parentId: the answer has no question before it")
    return Turn(
        id=f"open-webui/{chat.get('id')}/{id_}",
        messages=asked,
        answer=text_of(judged.get("content"), "content"),
        at=moment_of(judged.get("timestamp"), "timestamp"),
        opinions=opinions,
        user=chat.get("user_id"),
        session=chat.get("id"),
        model=judged.get("model"),
    )


def _opinions(data: Mapping[str, Any], user: Any, at: Any) -> tuple[Opinion, ...]:
    moment, found = moment_of(at, "updated_at"), list[Opinion]()
    reason = data.get("reason") or None
    rating = data.get("rating")
    if rating is not None:
        if rating not in (1, -1):
            raise RowError(f"rating: 1 or -1 is needed, not {rating!r}")
        found.append(Opinion("thumbs", "up" if rating == 1 else "down", reason, user, moment))
    fine = (data.get("details") or {}).get("rating")
    if isinstance(fine, int | float) and 1 <= fine <= 10:
        found.append(Opinion("score", (fine - 1) / 9, None, user, moment))
    if isinstance(data.get("comment"), str) and data["comment"].strip():
        found.append(Opinion("comment", data["comment"], None, user, moment))
    return tuple(found)
