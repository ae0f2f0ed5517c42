"""Everything one serving process holds, opened together and closed in the opposite order.

Routes reach it through `service_of(request)`. Left out: HTTP (app.py) and signals (__main__.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from burnish.feedback.audit import AuditLog
from burnish.feedback.disk import DiskSpace
from burnish.feedback.erasures import Erasures
from burnish.feedback.ids import id_keyring
from burnish.feedback.keyring import Keyring, KeyringFile
from burnish.feedback.redis_clients import open_async_client
from burnish.feedback.settings import StreamSettings
from burnish.feedback.spool.forwarder import Forwarder
from burnish.feedback.spool.shared_ledger import SharedLedger
from burnish.feedback.spool.spool import Spool
from burnish.feedback.stream.opening import open_stream
from burnish.feedback.stream.user_keys import UserKeys
from burnish.feedback.telemetry.trail import Trail
from burnish.memory import MemoryStore, connect
from burnish.memory.compaction import CompactionPolicies
from burnish.serving.api.budgets import Budgets, Limits, LocalAccounts
from burnish.serving.api.erasing import Eraser
from burnish.serving.api.memory_model import EngineSummariser
from burnish.serving.api.metrics import Metrics
from burnish.serving.api.recorder import Recorder
from burnish.serving.api.shared_budgets import SharedAccounts
from burnish.serving.api.vitals import Vitals
from burnish.serving.engine import Engine
from burnish.serving.live import LiveCompactor, LivePolicies, LiveRewards
from burnish.serving.registry import PolicyRegistry, signing_keys
from burnish.serving.settings import ServingSettings
from fastapi import Request
from redis.asyncio import Redis

log = logging.getLogger(__name__)

LOOK_PATIENCE_S = 5.0  # that a start waits for the first look at the aliases


@dataclass
class Service:
    settings: ServingSettings
    engine: Engine
    registry: PolicyRegistry
    disk: DiskSpace
    policies: LivePolicies
    compactor: LiveCompactor
    rewards: LiveRewards
    spool: Spool
    forwarder: Forwarder
    recorder: Recorder
    redis: Redis
    memory: MemoryStore
    ids: KeyringFile
    vitals: Vitals
    budgets: Budgets
    accounts: LocalAccounts | SharedAccounts
    eraser: Eraser
    audit: AuditLog
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False  # it is about to end, and says so
    refusing: bool = False  # new requests
    in_flight: int = 0
    started_at: float = field(default_factory=time.time)

    @classmethod
    def build(
        cls, settings: ServingSettings, engine: Engine, registry: PolicyRegistry | None = None
    ) -> Service:
        """Open files and make clients; nothing connects yet. Raises SpoolError, UnknownPolicy."""
        data = settings.data_dir
        disk = DiskSpace(data, settings.disk_low_mb * 10**6)
        shares = settings.fleet
        spool = Spool(
            data / "spool.db",
            max_bytes=settings.spool_max_mb * 2**20,
            ledger_days=settings.ledger_days,
            disk=disk,
            shared=SharedLedger(settings.redis_url, settings.ledger_days) if shares else None,
        )
        stream = open_stream(
            StreamSettings(
                redis_url=settings.redis_url,
                kafka_bootstrap=settings.kafka_bootstrap,
                data_dir=data,
            )
        )
        audit = AuditLog(data)
        registry = registry or PolicyRegistry(
            settings.registry_uri, settings.mlflow_artifacts, keys=signing_keys(data), audit=audit
        )
        policies = LivePolicies(
            engine,
            registry,
            names=settings.policies,
            model_path=settings.model,
            cache=data / "adapters",
            poll_s=settings.poll_s,
            pinned=settings.pinned_versions,
            canary_share=settings.canary_share,
            explore=settings.explore,
            trail=Trail(settings.redis_url),
        )
        compactor = LiveCompactor(
            registry, data / "compactor", poll_s=settings.poll_s, explore=settings.memory_explore
        )
        rewards = LiveRewards(
            settings.redis_url,
            signing_keys(data),
            engine.model_sha256,
            policies=settings.policies if engine.depth else (),
            poll_s=settings.poll_s,
        )
        redis = connect(settings.redis_url)
        ids = id_keyring(data)
        ids.read()  # makes it now, not under the first request
        tokenizer = engine.tokenizer

        def count(text: str) -> int:
            return len(tokenizer.encode(text, add_special_tokens=False))

        model = EngineSummariser(engine, lambda: policies.acquire(settings.policies[0]))
        formats = {"weights": engine.weights, "kv_cache": engine.kv_cache}
        forwarder = Forwarder(spool, stream)
        memory = MemoryStore(
            redis,
            count,
            policies=CompactionPolicies([compactor.policy]),
            summarise=model,
            ask=model.in_schema,
            background_policy=settings.memory_policy,
            turn_days=settings.response_days,
        )
        limits = Limits(
            settings.requests_per_minute, settings.tokens_per_minute, settings.concurrent_requests
        )
        patience = {"socket_timeout": 1, "socket_connect_timeout": 1}
        counter = open_async_client(settings.redis_url, **patience) if shares and limits else None
        accounts = SharedAccounts(limits, counter) if counter else LocalAccounts(limits)
        eraser = Eraser(
            Erasures(settings.redis_url), spool, memory, lambda: UserKeys(settings.redis_url)
        )
        vital = {
            "engine": engine,
            "spool": spool,
            "forwarder": forwarder,
            "policies": policies,
            "compactor": compactor,
            "rewards": rewards,
            "memory": memory.background,
            "eraser": eraser,
            **({"sharing": spool.sharing} if spool.sharing else {}),
        }
        made = cls(
            settings=settings,
            engine=engine,
            registry=registry,
            disk=disk,
            policies=policies,
            compactor=compactor,
            rewards=rewards,
            spool=spool,
            forwarder=forwarder,
            recorder=Recorder(spool, {} if engine.lossless else formats),
            redis=redis,
            memory=memory,
            ids=ids,
            vitals=Vitals(vital),
            budgets=Budgets(limits, accounts),
            accounts=accounts,
            eraser=eraser,
            audit=audit,
        )
        counted = made.metrics.compactions
        memory.background.on_pass = lambda one: counted.labels(one.outcome).inc()
        return made

    async def start(self) -> None:
        """Raises BaseMismatch; a registry, stream or Redis that is away is only degraded."""
        await self.engine.start()
        await self.eraser.start()
        self.forwarder.start()
        await self.policies.start()
        self.compactor.start()
        self.rewards.start()
        self.memory.background.start()
        self.vitals.start()

    async def stop(self) -> None:
        """Finish and record what was accepted; events not yet on the stream are sent at the next start."""
        self.vitals.stop()
        await self.eraser.stop()
        await self.memory.background.stop()
        await self.rewards.stop()
        await self.compactor.stop()
        await self.policies.stop()
        await self.engine.stop(drain=True)
        await self.recorder.drain()
        await asyncio.to_thread(self.forwarder.stop)
        await asyncio.to_thread(self.spool.close)
        if isinstance(self.accounts, SharedAccounts):
            await self.accounts.close()
        await self.redis.aclose()

    @property
    def secret(self) -> Keyring:
        """What signs interaction ids now, and what still verifies them."""
        return self.ids.read()

    @property
    def not_shared(self) -> list[str]:
        """What this replica decides alone at present, and why."""
        problems = []
        sharing = self.spool.sharing
        if sharing is not None and sharing.ledger.last_error:
            problems.append(
                f"feedback is accepted, and told to the other replicas later: {sharing.ledger.last_error}"
            )
        if isinstance(self.accounts, SharedAccounts) and self.accounts.last_error:
            problems.append(
                f"budgets are counted by this replica alone: {self.accounts.last_error}"
            )
        return problems

    @property
    def stream_lag(self) -> int:
        return self.forwarder.lag()


def service_of(request: Request) -> Service:
    return request.app.state.service
