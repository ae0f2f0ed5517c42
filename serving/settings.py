"""What the serving process can be told, from `BURNISH_*` variables or keyword arguments.

Left out: settings of other processes. Names unknown to every process are refused where the
command line starts, which is the one place that sees them all.
"""

from __future__ import annotations

from pathlib import Path

from burnish.feedback.ranges import BestOf
from burnish.feedback.settings import Url, readable_url
from burnish.kernels.formats import Cache, Weights
from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class CannotStart(Exception):
    """Something that a person can put right keeps the process from starting; the message is one line."""


class PartFailed(Exception):
    """A vital part of the process has failed; the message names it."""


class ServingSettings(BaseSettings):
    """Defaults suit one machine; `burnish up` fills in what it started itself."""

    model_config = SettingsConfigDict(env_prefix="BURNISH_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    model: Path = Path("ops/ember")
    data_dir: Path = Path(".burnish")
    redis_url: Url = "redis://127.0.0.1:6379/0"
    kafka_bootstrap: str | None = None
    mlflow_uri: Url | None = None  # None: SQLite in the data folder
    mlflow_artifacts: str | None = Field(
        default=None, description="where adapters go (default: beside the SQLite registry)"
    )
    mlflow_page: Url | None = Field(
        default=None,
        description="where people open MLflow's page, for links to it (default: the registry, where that is a server)",
    )
    keys_url: Url | None = Field(
        default=None,
        description="PostgreSQL with the API keys that replicas share (default: the data folder's)",
    )
    fleet: bool = Field(
        default=False,
        description="one of several replicas: they share standing judgements and keys' budgets in"
        " BURNISH_REDIS_URL, and BURNISH_SECRET must be the same on all",
    )
    ledger_days: float = Field(
        default=90.0, gt=0, le=3650, description="days a judgement can be read back by its id"
    )
    policies: tuple[str, ...] = Field(
        default=("default",),
        description="policies served; the first is what clients should ask for",
    )
    engine_url: str | None = Field(
        default=None,
        description="vLLM servers that run BURNISH_MODEL, separated by commas (default: the engine in"
        " this process)",
    )
    engine_key: str | None = Field(default=None, description="API key of these servers")
    weights: Weights = Field(
        default="auto",
        description="format in which serving keeps weights: auto (the smallest that is lossless),"
        " float32, bfloat16, int8 or int4; `burnish verify` shows what a format costs",
    )
    kv_cache: Cache = Field(
        default="auto",
        description="format of the cache of keys and values: auto (the model's own), or int8, which"
        " holds nearly twice as many tokens as bfloat16, and decodes more slowly",
    )
    max_running: int = Field(default=32, ge=1, description="requests in one batch")
    max_queue: int = Field(default=256, ge=1, description="requests waiting; then 429")
    threads: int = Field(default=0, ge=0, description="for torch; 0: as many as torch thinks")
    canary_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="share of end users whom a challenger answers that the learner leads no canary of"
        " (BURNISH_PROMOTES), the same on every replica",
    )
    explore: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="share of answers that the base gives beside a champion that has learnt, so that people"
        " go on judging what they would no longer see",
    )
    best_of: BestOf | dict[str, BestOf] = Field(
        default=1,
        description="candidates sampled for an answer, of which the reward model of the judgements so"
        " far chooses one, or by policy as JSON (one where it is not named); a request's own `best_of` goes before",
    )
    poll_s: float = Field(default=0.5, gt=0, description="seconds between looks at the aliases")
    pinned_versions: int = Field(
        default=8, ge=1, description="versions kept resident beside champion and previous"
    )
    spool_max_mb: int = Field(
        default=1024,
        ge=1,
        description="events waiting on disk; then feedback gets 503 and answers go unrecorded",
    )
    disk_low_mb: int = Field(
        default=200,
        ge=0,
        description="free disk below which readiness is degraded; below a quarter of it feedback"
        " and memory get 503 and answers go unrecorded",
    )
    max_tokens: int = Field(
        default=512, ge=1, description="of an answer whose request names no limit"
    )
    memory_budget: int = Field(
        default=1024, ge=0, description="tokens of remembered text a chat may carry"
    )
    memory_policy: str = Field(
        default="learned", description="decides what the view of a session that grew keeps"
    )
    memory_explore: float = Field(
        default=0.1, ge=0, le=1, description="share of `learned` compactions drawn, to learn from"
    )
    response_days: float = Field(
        default=30.0, gt=0, le=3650, description="days a response can be asked for and gone on from"
    )
    drain_wait_s: float = Field(
        default=0.0,
        ge=0,
        description="seconds after SIGTERM in which /readyz is 503 already and requests are still"
        " taken, so that a load balancer turns away first",
    )
    drain_s: float = Field(
        default=30.0, ge=0, description="seconds running answers may go on after SIGTERM"
    )

    max_body_mb: float = Field(default=4.0, gt=0, le=1024, description="of a request; then 413")
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="seconds a request's body may take to arrive; then 408"
    )
    idle_timeout_s: int = Field(
        default=75, ge=1, description="seconds an idle connection is kept open"
    )
    keepalive_s: float = Field(
        default=10.0, gt=0, description="seconds between comments on a stream that waits for tokens"
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="names in Host headers besides loopback's, while there are no keys"
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="origins of other sites whose pages may use the API (CORS)"
    )
    feedback_origins: tuple[str, ...] = Field(
        default=(),
        description="origins of products whose pages may load the element `burnish-feedback` and send"
        " feedback with a token (CORS); nothing else",
    )
    requests_per_minute: int = Field(
        default=0, ge=0, description="of one API key; then 429. 0: no limit"
    )
    tokens_per_minute: int = Field(
        default=0, ge=0, description="of one API key, read and written; then 429. 0: no limit"
    )
    concurrent_requests: int = Field(
        default=0, ge=0, description="of one API key at once; then 429. 0: no limit"
    )

    @field_validator("engine_url")
    @classmethod
    def _is_addresses(cls, given: str | None) -> str | None:
        urls = _split(given)
        for url in urls:
            if not readable_url(url).startswith(("http://", "https://")):
                raise ValueError("every address is a URL, as http://HOST:PORT")
        if len(set(urls)) < len(urls):
            raise ValueError("an address is named twice")
        return given

    @field_validator("weights", "kv_cache")
    @classmethod
    def _is_ours_to_choose(cls, given: str, info: ValidationInfo) -> str:
        if given != "auto" and info.data.get("engine_url"):
            raise ValueError("the server of BURNISH_ENGINE_URL chooses how it keeps them")
        return given

    def candidates(self, policy: str) -> int:
        """How many are sampled for an answer of a policy (BURNISH_BEST_OF)."""
        return self.best_of if isinstance(self.best_of, int) else self.best_of.get(policy, 1)

    @property
    def engine_urls(self) -> tuple[str, ...]:
        return _split(self.engine_url)

    @property
    def mlflow_links(self) -> str | None:
        """Where MLflow's page is, without a password that the registry's address may hold."""
        page = self.mlflow_page or self.mlflow_uri or ""
        return (
            page.rstrip("/")
            if page.startswith(("http://", "https://")) and "@" not in page
            else None
        )

    @property
    def registry_uri(self) -> str:
        if self.mlflow_uri:
            return self.mlflow_uri
        return f"sqlite:///{(self.data_dir / 'mlflow' / 'mlflow.db').resolve()}"


def _split(addresses: str | None) -> tuple[str, ...]:
    return tuple(one.strip().rstrip("/") for one in addresses.split(",")) if addresses else ()
