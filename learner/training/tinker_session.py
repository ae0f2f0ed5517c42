"""A session at a service that speaks the Tinker API, by its official SDK: the one place that knows it.

Everything waits: a method returns when the service has done its work. The SDK reports its own errors to
the service, unless TINKER_TELEMETRY=0. Left out: what to train, and why (tinker.py).
"""

from __future__ import annotations

import logging
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from burnish.kernels.lora import CONFIG, WEIGHTS, AdapterError, AdapterWeights
from burnish.kernels.unfused import load_exported
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.tinker_errors import TrainingServiceError, explained, one_line
from tinker import (
    AdamParams,
    Datum,
    ModelInput,
    RestClient,
    SamplingClient,
    ServiceClient,
    TensorData,
    TrainingClient,
)
from tinker.lib.base_url import resolve_base_url
from torch import Tensor, nn

log = logging.getLogger(__name__)

PATIENCE = 1800.0  # seconds that one request may take: a service that is full queues it
FIRST_ANSWER = 10.0  # seconds
DOWNLOAD = 60.0  # seconds without a byte
DOWNLOADS = 3  # attempts, each with newly signed URLs
EXPORT_TTL = 3600  # seconds that an export is kept if we do not delete it, the fewest there are

T_co = TypeVar("T_co", covariant=True)


class Awaited(Protocol[T_co]):
    """A future of the SDK."""

    def result(self, timeout: float | None = None) -> T_co: ...


class TinkerConnection:
    """One session, whose key the service has accepted, and its base model. Raises
    TrainingServiceError, as everything here does."""

    def __init__(self, url: str | None, key: str, model: str) -> None:
        self.url, self.model = resolve_base_url(url), model
        _check_reachable(self.url)
        with explained("opening a session", self.url):
            self._rest = RestClient(base_url=self.url, api_key=key)
            self._service = ServiceClient(base_url=self.url, api_key=key)
        self._check_model()

    def create(self, rank: int, seed: int, *, attention: bool, mlp: bool) -> TinkerRun:
        """A training run on a new adapter, which changes nothing yet."""
        doing = f"creating a training run of {self.model}"
        with explained(doing, self.url):
            future = self._service.create_lora_training_client(
                self.model,
                rank=rank,
                seed=seed,
                train_attn=attention,
                train_mlp=mlp,
                train_unembed=False,
            )
        return TinkerRun(self, self.wait(future, doing))

    def resume(self, path: str) -> TinkerRun:
        """A training run that goes on from a checkpoint of the service's, with its optimiser."""
        doing = f"loading {path}"
        with explained(doing, self.url):
            future = self._service.create_training_client_from_state_with_optimizer(path)
        return TinkerRun(self, self.wait(future, doing))

    def base(self) -> SamplingClient:
        doing = f"opening {self.model}"
        with explained(doing, self.url):
            future = self._service.create_sampling_client(base_model=self.model)
        return self.wait(future, doing)

    def wait(self, future: Awaited[T_co], doing: str) -> T_co:
        """The result of a future."""
        with explained(doing, self.url):
            try:
                return future.result(PATIENCE)
            except TimeoutError as error:
                raise TimeoutError(f"no answer within {PATIENCE:.0f} seconds") from error

    def fetch(self, path: str, folder: Path) -> None:
        """Download the two files of an exported adapter into `folder`."""
        doing = f"downloading {path}"
        for attempt in range(1, DOWNLOADS + 1):
            urls = self.wait(self._rest.get_external_weights_urls(path), doing).urls
            for name in (CONFIG, WEIGHTS):
                if name not in urls:
                    raise TrainingServiceError(f"Tinker: {doing} failed: there is no {name}")
            try:
                for name in (CONFIG, WEIGHTS):
                    _download(urls[name], folder / name)
                return
            except (OSError, ValueError) as error:
                if attempt == DOWNLOADS:
                    raise TrainingServiceError(
                        f"Tinker: {doing} failed: {one_line(error)}"
                    ) from error

    def forget(self, path: str) -> None:
        """Delete a checkpoint. One that stays is no more than storage, so failing is only logged."""
        try:
            self.wait(self._rest.delete_checkpoint_from_tinker_path(path), f"deleting {path}")
        except TrainingServiceError as error:
            log.warning("%s", error)

    def close(self) -> None:
        """End the session. A service that is away ends it by itself, so failing is only logged."""
        try:
            with explained("ending the session", self.url):
                self._service.close("success").result(FIRST_ANSWER)
        except TrainingServiceError as error:
            log.warning("%s", error)

    def _check_model(self) -> None:
        doing = "asking for its models"
        found = self.wait(self._rest.get_server_capabilities(), doing).supported_models
        names = [m.model_name for m in found if m.model_name and m.trainable is not False]
        if self.model not in names:
            self.close()
            raise TrainingServiceError(
                f"BURNISH_TINKER_MODEL: {self.url} does not train {self.model},"
                f" but {', '.join(sorted(names)) or 'nothing'}"
            )


class TinkerRun:
    """One training run: an adapter and its optimiser, both at the service."""

    def __init__(self, connection: TinkerConnection, client: TrainingClient) -> None:
        self._connection, self._client = connection, client

    def step(
        self,
        rollouts: Sequence[Rollout],
        advantages: Sequence[Tensor],
        ratio_cap: float,
        optimiser: Mapping[str, float],
    ) -> tuple[list[Tensor], Mapping[str, float]]:
        """One optimiser step on the sum over answer tokens of truncated importance weight times advantage
        times log-probability (the service's loss `cispo`, whose weights are constants).

        Returns each rollout's log-probabilities before the step, and what the optimiser tells.
        """
        data = [_datum(*pair) for pair in zip(rollouts, advantages, strict=True)]
        doing, wait = "a training step", self._connection.wait
        with explained(doing, self._connection.url):
            clipping = {"clip_low_threshold": 0.0, "clip_high_threshold": ratio_cap}
            gradient = self._client.forward_backward(data, "cispo", clipping)
            update = self._client.optim_step(AdamParams(**optimiser))
        outputs = wait(gradient, doing).loss_fn_outputs
        metrics = wait(update, doing).metrics or {}
        if len(outputs) != len(data) or any("logprobs" not in output for output in outputs):
            raise TrainingServiceError(f"Tinker: {doing} failed: it returned no log-probabilities")
        logprobs = [output["logprobs"].to_torch() for output in outputs]
        kept = zip(logprobs, rollouts, strict=True)
        return [of[len(rollout.prompt_ids) - 1 :] for of, rollout in kept], metrics

    def save(self, name: str) -> str:
        """Keep adapter and optimiser as they are now; the path that `resume` takes."""
        return self._connection.wait(self._client.save_state(name), f"saving {name}").path

    def export(self, name: str, model: nn.Module) -> AdapterWeights:
        """The adapter as it is now, for `model`."""
        exporting = self._client.save_weights_external(name, ttl_seconds=EXPORT_TTL)
        path = self._connection.wait(exporting, f"exporting {name}").path
        with tempfile.TemporaryDirectory() as folder:
            self._connection.fetch(path, Path(folder))
            self._connection.forget(path)
            try:
                return load_exported(folder, model)
            except AdapterError as error:
                raise TrainingServiceError(
                    f"BURNISH_TINKER_MODEL: an adapter of {self._connection.model} does not fit"
                    f" BURNISH_MODEL: {one_line(error)}"
                ) from error


def base_logprobs(
    connection: TinkerConnection, base: SamplingClient, rollouts: Sequence[Rollout]
) -> list[Tensor]:
    """The base model's log-probabilities of each rollout's answer tokens."""
    doing = "asking the base for log-probabilities"
    with explained(doing, connection.url):
        asked = [
            base.compute_logprobs(ModelInput.from_ints(list(r.sequence)), len(r.token_ids))
            for r in rollouts
        ]
    answers = [connection.wait(future, doing) for future in asked]
    return [torch.tensor(a[-len(r.token_ids) :]) for a, r in zip(answers, rollouts, strict=True)]


def _datum(rollout: Rollout, advantages: Tensor) -> Datum:
    """A rollout as the service reads it: each token is to be predicted from those before it, and the
    tokens of the prompt have no advantage."""
    sequence = list(rollout.sequence)
    before = torch.zeros(len(rollout.prompt_ids) - 1)
    inputs = {
        "target_tokens": torch.tensor(sequence[1:]),
        "logprobs": torch.cat([before, torch.tensor(rollout.logprobs)]),
        "advantages": torch.cat([before, advantages]),
    }
    return Datum(
        model_input=ModelInput.from_ints(sequence[:-1]),
        loss_fn_inputs={name: TensorData.from_torch(tensor) for name, tensor in inputs.items()},
    )


def _check_reachable(url: str) -> None:
    """The SDK tries a wrong address for minutes; this fails at once."""
    try:
        urllib.request.urlopen(f"{url}/api/v1/healthz", timeout=FIRST_ANSWER).close()
    except urllib.error.HTTPError:
        return  # something answers
    except (OSError, ValueError) as error:
        raise TrainingServiceError(
            f"BURNISH_TINKER_URL: nothing answers at {url}: {one_line(error)}"
        ) from error


def _download(url: str, path: Path) -> None:
    """By urllib, which logs no URL: a signed one is a key."""
    if not url.startswith(("https://", "http://")):
        raise ValueError("the service signed a URL that is not one of HTTP")
    with urllib.request.urlopen(url, timeout=DOWNLOAD) as answer, path.open("wb") as file:
        while piece := answer.read(1 << 20):
            file.write(piece)
