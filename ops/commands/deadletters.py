"""`burnish deadletters`: lists the records that the learner could not read, or puts them back.

Works on the stream of the service that runs on the data folder, else on the one the settings name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from burnish.feedback.contract import TOPICS
from burnish.feedback.errors import FeedbackError
from burnish.feedback.settings import StreamSettings
from burnish.feedback.stream.deadletters import letters, replay_all
from burnish.feedback.stream.opening import open_stream
from burnish.feedback.stream.record import StreamRecord
from burnish.ops.commands.client import ServiceDown, ServiceError
from burnish.ops.settings import UpSettings
from burnish.ops.supervisor import run_state
from burnish.ops.supervisor.services import redis_url
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def count(settings: UpSettings) -> dict[str, Counter[str]]:
    """How many dead letters for each reason, by topic."""
    stream = open_stream(stream_settings(settings))
    try:
        stream.ensure_topics()
        return {topic: Counter(map(_reason, letters(stream, topic))) for topic in TOPICS}
    except FeedbackError as error:
        raise ServiceError(str(error)) from error
    finally:
        stream.close()


def table(counted: Mapping[str, Counter[str]], reasons: int) -> Table:
    """One row per topic: how many dead letters, and the most frequent reasons."""
    shown = Table("topic", "dead letters", "reasons", box=None)
    for topic, counts in counted.items():
        most = [f"{number} x {reason}" for reason, number in counts.most_common(reasons)]
        shown.add_row(topic, str(counts.total()), escape("\n".join(most)))
    return shown


def _reason(letter: StreamRecord) -> str:
    return f"{letter.headers.get('dlt_exception')}: {letter.headers.get('dlt_message')}"


def replay(settings: UpSettings, console: Console) -> dict[str, int]:
    """Publish all dead letters to their topics again; how many, by topic."""
    try:
        counts = replay_all(stream_settings(settings))
    except FeedbackError as error:
        raise ServiceError(str(error)) from error
    for topic, number in counts.items():
        console.print(f"{topic}: {number} put back", highlight=False)
    return counts


def stream_settings(settings: UpSettings) -> StreamSettings:
    """The stream that the settings name, else that of the service running on the data folder.

    Raises ServiceDown where there is neither.
    """
    if settings.redis_url or settings.kafka_bootstrap:
        return StreamSettings()
    data_dir = settings.data_dir.resolve()
    state = run_state.running(data_dir)
    if state is None:
        raise ServiceDown(
            f"no service runs on {data_dir}; start one with `burnish up`, "
            "or set BURNISH_REDIS_URL or BURNISH_KAFKA_BOOTSTRAP"
        )
    # With Kafka too, Redis has the keys that events are sealed under.
    url = "" if state.redis_port is None else redis_url(data_dir, state.redis_port)
    if state.kafka is not None:
        found = StreamSettings(kafka_bootstrap=state.kafka)
        return found.model_copy(update={"redis_url": url}) if url else found
    assert url  # without one, the settings would name a Redis
    return StreamSettings(redis_url=url)
