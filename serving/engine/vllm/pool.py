"""The vLLM servers behind one engine: which are up, which gets a request, which adapters they hold.

A server that fails a request or a look leaves the rotation. While `watch` is on, a thread for each looks at
it every few seconds, and at once after a failure; one that is well again first gets every adapter that is
live, then requests. Nor does one that restarted unnoticed answer for an adapter that it lost: requests go to
servers that hold theirs. Where no server is up all are tried.

Left out: what is asked (engine.py) and how (client.py), and who is preferred (routing.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from burnish.serving.engine.types import EngineError, QueueFull, ServerStats
from burnish.serving.engine.vllm.client import CONNECT_S, Look, VllmClient
from burnish.serving.engine.vllm.errors import BadAdapter, ServerLost, Unreachable
from burnish.serving.engine.vllm.routing import Prompt, pick
from burnish.serving.engine.vllm.server import Patience, Server

log = logging.getLogger(__name__)

Problems = Mapping[Server, EngineError]


class Pool:
    """Servers of one model."""

    def __init__(
        self,
        urls: Sequence[str],
        key: str | None,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Looks at all of them. Raises Unreachable if none answers."""
        self._patience, self._clock = patience, clock
        self.servers = tuple(Server(VllmClient(url, key, clock)) for url in urls)
        self._lock = threading.Lock()
        self._live: dict[str, Path] = {}  # adapters that every server should hold
        self._turns = 0
        self._watched: tuple[threading.Event, list[threading.Thread]] | None = None
        looks: dict[Server, Look] = {}
        problems = self._each(
            self.servers, lambda s: looks.update({s: s.client.look(max(CONNECT_S, patience.look))})
        )
        if not looks:
            raise self._none_left(problems)
        self.max_model_len = min(look.max_model_len for look in looks.values())
        for server, look in looks.items():
            server.model, server.up = look.model, True
        for server, error in problems.items():
            self._take_out(server, error)

    # -- requests ------------------------------------------------------------------------------

    @contextmanager
    def lend(self, prompt: Prompt, adapter: str | None, tried: Problems) -> Iterator[Server]:
        """A server to ask, counted as busy meanwhile; none of those tried in vain.

        Raises what these failed with, if no server is left.
        """
        with self._lock:
            untried = [s for s in self.servers if s.model is not None and s not in tried]
            up = [server for server in untried if server.up]
            able = [s for s in up if adapter is None or adapter in s.adapters] or up or untried
            if not able:
                raise self._none_left(tried)
            server = pick(able, prompt)
            self._turns += 1
            server.turn = self._turns
            server.running += 1
            server.requests += 1
            server.seen.add(prompt)
        try:
            yield server
        finally:
            with self._lock:
                server.running -= 1

    def failed(self, server: Server, error: EngineError) -> None:
        """Take a server that failed a request out of the rotation until a look finds it well."""
        self._take_out(server, error)
        with self._lock:
            server.failures += 1
        server.look_now.set()

    def _take_out(self, server: Server, error: EngineError) -> None:
        with self._lock:
            if server.up or server.problem is None:
                log.warning("vLLM server %s is away: %s", server.address, error)
            server.up, server.problem = False, _found(error)
            server.seen.clear()

    def count_tokens(self, server: Server, tokens: int) -> None:
        with self._lock:
            server.tokens += tokens

    def stats(self) -> tuple[ServerStats, ...]:
        with self._lock:
            return tuple(server.stats() for server in self.servers)

    def gave_up(self, tried: Problems) -> EngineError:
        """What is said of servers that failed: what the only one said, or which said what."""
        if len(self.servers) == 1:
            (error,) = tried.values()
            return error
        kinds = {type(error) for error in tried.values()}
        kind = QueueFull if QueueFull in kinds else kinds.pop() if len(kinds) == 1 else ServerLost
        return kind("; ".join(f"{s.address}: {_found(error)}" for s, error in tried.items()))

    def _none_left(self, tried: Problems) -> EngineError:
        """What is said where no server answers: of each, what it failed with."""
        away = (s for s in self.servers if s.problem and not s.up and s not in tried)
        error = self.gave_up({**tried, **{s: Unreachable(s.problem or "") for s in away}})
        if len(self.servers) == 1 or isinstance(error, Unreachable):
            return error
        return type(error)(f"no vLLM server answers: {error}")

    def abort(self) -> None:
        """End all running streams, and those still to begin until `resume`."""
        for server in self.servers:
            server.client.abort()

    def resume(self) -> None:
        for server in self.servers:
            server.client.aborting = False

    # -- adapters ------------------------------------------------------------------------------

    def load(self, name: str, folder: Path) -> None:
        """Load the adapter on every server that is up. Blocks.

        One that goes away meanwhile gets it when it is back. Raises BadAdapter if one refuses it, and
        Unreachable if none answers.
        """
        with self._lock:
            self._live[name] = folder  # from now on, so that no look at a server passes it over
            asked = [server for server in self.servers if server.up] or self.servers
        problems = self._each(asked, lambda server: self._load_on(server, name, folder))
        refusals = {s: e for s, e in problems.items() if not isinstance(e, ServerLost)}
        for server, error in problems.items():
            if server not in refusals:
                self.failed(server, error)
        if refusals or len(problems) == len(asked):
            self.unload(name)
            raise self.gave_up(refusals) if refusals else self._none_left(problems)

    def unload(self, name: str) -> None:
        """Make every server drop the adapter; one that does not answer is told later. Blocks.

        Raises EngineError if a server refuses.
        """
        with self._lock:
            self._live.pop(name, None)
            told = [server for server in self.servers if server.up and name in server.adapters]
            for server in self.servers:
                server.adapters -= {name}
                server.owed |= {name}
        problems = self._each(told, lambda server: self._unload_on(server, name))
        for server, error in problems.items():
            if not isinstance(error, ServerLost):
                raise error
            self.failed(server, error)

    def reload(self, server: Server, name: str | None) -> bool:
        """Load a live adapter again: the server has restarted and lost it. False if it is not live."""
        with self._lock:
            folder = None if name is None else self._live.get(name)
        if name is None or folder is None:
            return False
        self._load_on(server, name, folder)
        return True

    def _load_on(self, server: Server, name: str, folder: Path) -> None:
        with server.adapting:
            server.client.load_adapter(name, folder)
            with self._lock:
                server.adapters |= {name}
                server.owed -= {name}

    def _unload_on(self, server: Server, name: str) -> None:
        with server.adapting:
            server.client.unload_adapter(name)
            with self._lock:
                server.owed -= {name}

    # -- health --------------------------------------------------------------------------------

    def look(self, server: Server) -> None:
        """See how the server is, and bring its adapters and its place in the rotation up to date."""
        with server.adapting:
            began = self._clock()
            try:
                look = server.client.look(self._patience.look)
                if look.max_model_len < self.max_model_len:
                    raise Unreachable(
                        f"its --max-model-len is {look.max_model_len}, of others {self.max_model_len}"
                    )
                self._bring_up_to_date(server, look)
            except ServerLost as error:
                self._take_out(server, error)
                self._lose_requests(server, began)

    def _bring_up_to_date(self, server: Server, look: Look) -> None:
        with self._lock:
            live = dict(self._live)
            held = look.adapters & live.keys()
            if server.adapters - held:  # it restarted: its cache is as lost as they are
                server.seen.clear()
            server.model, server.adapters, server.silent_since = look.model, held, None
            owed = server.owed & look.adapters
        problem = None
        for name in live.keys() - held:
            try:
                server.client.load_adapter(name, live[name])
                held |= {name}
            except BadAdapter as error:
                problem = str(error)
        for name in owed:
            try:
                server.client.unload_adapter(name)
            except ServerLost:
                raise
            except EngineError as error:  # it keeps an adapter too long, and answers
                log.warning("vLLM server %s: %s", server.address, error)
        with self._lock:
            if not server.up:
                log.info("vLLM server %s is back", server.address)
            if problem is not None and problem != server.problem:
                log.warning("vLLM server %s: %s", server.address, problem)
            server.up, server.problem = True, problem
            server.adapters = held & self._live.keys()
            server.owed -= owed
            server.elsewhere = max(0, look.load - server.running)

    def _lose_requests(self, server: Server, began: float) -> None:
        """Those that waited for the server as long as it has not answered looks, if that is long."""
        with self._lock:
            if server.silent_since is None:
                server.silent_since = began
            silent_since = server.silent_since
        long_ago = self._clock() - self._patience.silence
        if silent_since <= long_ago:
            server.client.give_up(before=long_ago)

    def look_at_all(self) -> None:
        """Look at every server, now."""
        self._each(self.servers, self.look)

    @property
    def watchers(self) -> list[threading.Thread]:
        return self._watched[1] if self._watched else []

    def watch(self) -> None:
        """Look at each server again and again, until `unwatch`."""
        ended = threading.Event()
        threads = [
            threading.Thread(target=self._watch, args=(server, ended), daemon=True)
            for server in self.servers
        ]
        self._watched = ended, threads
        for thread in threads:
            thread.start()

    def unwatch(self) -> None:
        if self._watched is not None:
            self._watched[0].set()
            self._watched = None
            for server in self.servers:
                server.look_now.set()

    def _watch(self, server: Server, ended: threading.Event) -> None:
        while True:
            server.look_now.wait(self._patience.between_looks)
            if ended.is_set():
                return
            server.look_now.clear()
            self.look(server)

    def _each(
        self, servers: Sequence[Server], call: Callable[[Server], None]
    ) -> dict[Server, EngineError]:
        """Call for all servers at once, and wait; those that failed."""

        def one(server: Server) -> EngineError | None:
            try:
                call(server)
            except EngineError as error:
                return error
            return None

        with ThreadPoolExecutor(max(len(servers), 1)) as threads:
            outcomes = threads.map(one, servers)
            pairs = list(zip(servers, outcomes, strict=True))
        return {server: error for server, error in pairs if error is not None}


def _found(error: EngineError) -> str:
    return error.found if isinstance(error, ServerLost) else str(error)
