"""What Prometheus scrapes: OpenTelemetry's GenAI names where they exist, `burnish_` for the rest.

Gauges are read when scraped. Left out: labels that grow with users or sessions.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_PER_TOKEN = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """One set per app, so that two apps in one process do not share numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "burnish_http_requests", "Requests by route and status.", ("route", "status"), **own
        )
        self.request_seconds = Histogram(
            "burnish_http_request_duration_seconds",
            "From request to the last byte of its answer, by route.",
            ("route",),
            buckets=_SECONDS,
            **own,
        )
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From request to last token.",
            ("operation", "policy"),
            buckets=_SECONDS,
            **own,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From request to first token.",
            ("operation", "policy"),
            buckets=_SECONDS,
            **own,
        )
        self.per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Between tokens of one choice after the first, mean of a request.",
            ("operation", "policy"),
            buckets=_PER_TOKEN,
            **own,
        )
        self.tokens = Counter(
            "gen_ai_client_tokens", "Tokens read and written.", ("policy", "type"), **own
        )
        self.evaluations = Counter(
            "gen_ai_evaluation_result", "Judgements accepted.", ("name", "value"), **own
        )
        self.interactions = Counter(
            "burnish_interactions", "Interactions recorded.", ("policy", "outcome"), **own
        )
        self.arms = Counter(
            "burnish_arm_answers",
            "Requests of the users of a canary, by its arm.",
            ("policy", "arm", "outcome"),
            **own,
        )
        self.canary_share = Gauge(
            "burnish_canary_share",
            "Share of users whom the challenger answers; 0 without one.",
            ("policy",),
            **own,
        )
        self.best_of = Counter(
            "burnish_best_of",
            "Answers that were to be chosen among candidates: chosen, or the first one given.",
            ("policy", "outcome"),
            **own,
        )
        self.candidates = Counter(
            "burnish_candidates", "Candidates sampled to choose answers from.", ("policy",), **own
        )
        self.reward_votes = Gauge(
            "burnish_reward_votes",
            "Judged answers that the reward model in use was fitted to.",
            ("policy",),
            **own,
        )
        self.reward_age = Gauge(
            "burnish_reward_age_seconds", "Since it was published.", ("policy",), **own
        )
        self.memory_errors = Counter(
            "burnish_memory_append_errors", "Turns that memory did not take.", **own
        )
        self.version = Gauge(
            "burnish_policy_version", "The version that answers.", ("policy",), **own
        )
        self.swaps = Gauge(
            "burnish_policy_swaps", "Versions swapped in since start.", ("policy",), **own
        )
        self.engine = Gauge("burnish_engine", "The engine at a glance.", ("what",), **own)
        self.engine_server = Gauge(
            "burnish_engine_server",
            "A vLLM server at a glance, by address; counts are of what was asked of it from here.",
            ("server", "what"),
            **own,
        )
        self.spool_events = Gauge("burnish_spool_events", "Events that wait for the stream.", **own)
        self.spool_bytes = Gauge("burnish_spool_bytes", "Their size.", **own)
        self.spool_limit = Gauge(
            "burnish_spool_limit_bytes", "Size at which feedback is refused.", **own
        )
        self.in_flight = Gauge("burnish_http_requests_in_flight", "Requests now.", **own)
        self.disk_free = Gauge("burnish_disk_free_bytes", "Of the data folder's disk.", **own)
        self.compactions = Counter(
            "burnish_memory_compactions", "Passes over sessions that grew.", ("outcome",), **own
        )
        self.redis_up = Gauge("burnish_redis_up", "1 while memory's Redis answers.", **own)
        self.redis_memory = Gauge(
            "burnish_redis_memory_bytes", "Memory that Redis has in use.", **own
        )
        self.stream_up = Gauge("burnish_stream_up", "1 while the stream takes events.", **own)

    def render(self) -> bytes:
        return generate_latest(self.registry)
