"""What the stand-in holds and computes: a tiny model, an adapter and AdamW for each run, checkpoints.

It computes what Tinker's pages on losses, optimiser steps and checkpoints define.
"""

from __future__ import annotations

import itertools
import json
import math
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from burnish.kernels.lora import (
    AdapterWeights,
    LoraSpec,
    default_targets,
    init_adapter,
    lora_targets,
)
from burnish.kernels.model import LoadedModel
from fastapi.responses import JSONResponse, Response
from safetensors.torch import save
from tinker.proto import tinker_public_pb2 as proto
from torch import Tensor

BASE, KEY, ALPHA = "Tiny/Tiny-MoE", "tml-a-key-of-the-stand-in", 8.0
PROTO = "application/x-protobuf"
DTYPES = {proto.DTYPE_FLOAT32: np.float32, proto.DTYPE_INT64: np.int64}


class Refused(Exception):
    """A request whose future fails: the user's fault."""


class Gone(Exception):
    """Answered with 404."""


@dataclass
class Run:
    """One training run: requests are done in the order of their numbers, each once."""

    slot: int
    adapter: AdapterWeights
    optimiser: torch.optim.AdamW
    next: int = 1
    waiting: dict[int, tuple[str, Callable[[], Any]]] = field(default_factory=dict)
    known: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, slot: int, adapter: AdapterWeights, state: dict[str, Any] | None = None) -> Run:
        live = adapter.trainable()
        optimiser = torch.optim.AdamW(live.tensors.values())
        if state is not None:
            optimiser.load_state_dict(state)
        return cls(slot, live, optimiser)


@dataclass
class Failure:
    """What the next requests to a path get; with `lost`, after their work has been done."""

    status: int
    times: float
    lost: bool = False
    message: str = "out of order"


class Service:
    """What the service holds, and how it misbehaves."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.runs: dict[str, Run] = {}
        self.checkpoints: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.results: dict[str, tuple[str, Any]] = {}
        self.polls: Counter[str] = Counter()
        self.failures: dict[str, Failure] = {}  # by the first part of the path, as the calls
        self.calls: Counter[str] = Counter()
        self.finished: list[str] = []
        self.advantages: list[Tensor] = []  # of every rollout that was learnt from
        self.polls_needed = 0  # answers "try again" before a result
        self.base_shift = 0.0  # added to the base's log-probabilities, as another base would
        self.tells_norm = True
        self.exports_without = ""  # a part of tensors' names
        self._slots = itertools.count(1000)
        self._lock = threading.Condition()  # one computes at a time

    # -- futures ---------------------------------------------------------------------------

    def promise(self, work: Callable[[], Any]) -> dict[str, str]:
        """Do the work; its result waits to be retrieved."""
        request_id = uuid.uuid4().hex
        with self._lock:
            self._settle(request_id, work)
        return {"request_id": request_id}

    def promise_in_order(self, model_id: str, seq_id: int, work: Callable[[Run], Any]) -> Any:
        with self._lock:
            if model_id not in self.runs:
                raise Gone(f"no training run {model_id}")
            run = self.runs[model_id]
            if seq_id not in run.known:
                run.known[seq_id] = uuid.uuid4().hex
                run.waiting[seq_id] = run.known[seq_id], lambda: work(run)
                while run.next in run.waiting:
                    self._settle(*run.waiting.pop(run.next))
                    run.next += 1
            return {"request_id": run.known[seq_id], "model_id": model_id}

    def _settle(self, request_id: str, work: Callable[[], Any]) -> None:
        try:
            self.results[request_id] = "done", work()
        except Refused as error:
            self.results[request_id] = "failed", str(error)
        self._lock.notify_all()

    def retrieve(self, request_id: str) -> Response:
        self.polls[request_id] += 1
        with self._lock:
            settled = self._lock.wait_for(lambda: request_id in self.results, timeout=5)
        if not settled or self.polls[request_id] <= self.polls_needed:
            again = {"type": "try_again", "request_id": request_id, "queue_state": "active"}
            return JSONResponse(again)
        state, result = self.results[request_id]
        if state == "failed":
            return JSONResponse({"error": result, "category": "user"})
        if isinstance(result, bytes):
            return Response(result, media_type=PROTO)
        return JSONResponse(result)

    # -- training --------------------------------------------------------------------------

    def create(self, body: dict[str, Any]) -> dict[str, str]:
        config = body["lora_config"]
        assert not config["train_unembed"]
        targets = default_targets(self.model.outline)
        chosen = [t for t in targets if config["train_mlp" if "mlp" in t else "train_attn"]]
        spec = LoraSpec(config["rank"], ALPHA, tuple(chosen))
        adapter = init_adapter(self.model.outline, spec, config["seed"])
        return self._enter(body, Run.of(next(self._slots), adapter))

    def load(self, body: dict[str, Any]) -> dict[str, str]:
        if body["path"] not in self.checkpoints:
            raise Refused(f"checkpoint {body['path']} does not exist")
        assert body["optimizer"]
        adapter, state = self.checkpoints[body["path"]]
        return self._enter(body, Run.of(next(self._slots), adapter, state))

    def _enter(self, body: dict[str, Any], run: Run) -> dict[str, str]:
        model_id = f"{body['session_id']}:train:{body['model_seq_id']}"
        self.runs[model_id] = run
        return {"model_id": model_id, "path": body.get("path", "")}

    def forward_backward(self, run: Run, asked: Any) -> bytes:
        assert asked.loss_fn == "cispo", asked.loss_fn
        low, high = (asked.loss_fn_config[f"clip_{end}_threshold"] for end in ("low", "high"))
        outputs, total = [], 0.0
        self.model.set_adapter(run.slot, run.adapter)
        for datum in asked.data:
            tokens = np.frombuffer(datum.model_input[0].encoded_text.tokens, np.int32).tolist()
            inputs = {name: _tensor(tensor) for name, tensor in datum.loss_fn_inputs.items()}
            targets = inputs["target_tokens"]
            self.advantages.append(inputs["advantages"])
            logits = self.model.read([[*tokens, int(targets[-1])]], [1], slot=run.slot)
            chosen = logits.log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
            ratio = (chosen - inputs["logprobs"]).exp().clamp(low, high).detach()
            loss = -(ratio * chosen * inputs["advantages"]).sum()
            loss.backward()
            outputs.append(chosen.detach().numpy())
            total += float(loss.detach())
        self.model.set_adapter(run.slot, None)
        told = proto.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord")
        told.metrics["loss:sum"] = total
        record = told.loss_fn_outputs.add(num_datums=len(outputs))
        batched = record.fields["logprobs"]
        batched.dtype = proto.DTYPE_FLOAT32
        batched.data = b"".join(output.astype(np.float32).tobytes() for output in outputs)
        lengths = [0, *(4 * len(output) for output in outputs)]
        batched.offsets = np.cumsum(lengths).astype(np.int64).tobytes()
        return told.SerializeToString()

    def optim_step(self, run: Run, adam: dict[str, float]) -> dict[str, Any]:
        tensors = list(run.adapter.tensors.values())
        limit = adam["grad_clip_norm"] or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(tensors, limit))
        for group in run.optimiser.param_groups:
            group.update(lr=adam["learning_rate"], betas=(adam["beta1"], adam["beta2"]))
            group.update(eps=adam["eps"], weight_decay=adam["weight_decay"])
        run.optimiser.step()
        run.optimiser.zero_grad()
        return {"metrics": {"unclipped_grad_l2:mean": norm}} if self.tells_norm else {}

    def save(self, model_id: str, run: Run, name: str) -> dict[str, str]:
        path = f"tinker://{model_id}/weights/{name}"
        if path in self.checkpoints:
            raise Refused(f"{path} exists")
        state = optimiser_copy(run.optimiser.state_dict())
        self.checkpoints[path] = run.adapter.detached(), state
        return {"path": path, "type": "save_weights"}

    def export(self, model_id: str, run: Run, name: str) -> dict[str, str]:
        path = f"tinker://{model_id}/external_weights/{name}"
        spec = run.adapter.spec
        config = {"peft_type": "LORA", "r": spec.rank, "lora_alpha": spec.alpha}
        config["target_modules"] = "all-linear"
        tensors = experts_apart(self.model, run.adapter)
        if without := self.exports_without:
            tensors = {n: t for n, t in tensors.items() if without not in n}
        files = {
            "adapter_config.json": json.dumps(config).encode(),
            "adapter_model.safetensors": save(tensors),
        }
        self.checkpoints[path] = {name: uuid.uuid4().hex for name in files}
        self.files.update({self.checkpoints[path][name]: data for name, data in files.items()})
        return {"path": path}

    def base_logprobs(self, body: dict[str, Any]) -> bytes:
        tokens = [t for chunk in body["prompt"]["chunks"] for t in chunk["tokens"]]
        wanted = body["prompt_logprobs_last_n"]
        assert body["prompt_logprobs"]
        assert 1 <= wanted < len(tokens)
        with torch.no_grad():
            logits = self.model.read([tokens], [len(tokens) - wanted])
        answer = torch.tensor(tokens[-wanted:])
        chosen = logits.log_softmax(-1).gather(1, answer[:, None]).squeeze(1) + self.base_shift
        missing = np.full(len(tokens) - wanted, np.nan, np.float32)
        told = proto.SampleResponse()
        told.prompt_logprobs = np.concatenate([missing, chosen.numpy()]).tobytes()
        told.sequences.add(stop_reason=proto.STOP_REASON_LENGTH, tokens=np.int32(1).tobytes())
        return told.SerializeToString()

    def delete(self, path: str) -> None:
        if path not in self.checkpoints:
            raise Gone(f"no checkpoint {path}")
        del self.checkpoints[path]


def _tensor(message: Any) -> Tensor:
    return torch.from_numpy(np.frombuffer(message.dense, DTYPES[message.dtype]).copy())


def optimiser_copy(state: dict[str, Any]) -> dict[str, Any]:
    copied = {i: {k: v.clone() for k, v in of.items()} for i, of in state["state"].items()}
    return {"state": copied, "param_groups": [dict(g) for g in state["param_groups"]]}


def experts_apart(model: LoadedModel, weights: AdapterWeights) -> dict[str, Tensor]:
    """The adapter's tensors with every expert and projection by itself, as services export them."""
    tensors: dict[str, Tensor] = {}
    for target in lora_targets(model.outline, weights.spec.targets):
        names = [f"{target.name}.lora_{letter}.weight" for letter in "AB"]
        a, b = (weights.tensors[name].detach() for name in names)
        if target.parameter is None:
            tensors.update(zip(names, (a, b), strict=True))
            continue
        a, b = target.unpack(a, b, weights.spec.rank)
        path = target.name.removesuffix(".base_layer")
        fused = target.parameter == "gate_up_proj"
        for expert in range(target.experts):
            parts = b[expert].chunk(2) if fused else (b[expert],)
            for part, of_part in zip(
                ("gate_proj", "up_proj") if fused else ("down_proj",), parts, strict=True
            ):
                tensors[f"{path}.{expert}.{part}.lora_A.weight"] = a[expert].clone()
                tensors[f"{path}.{expert}.{part}.lora_B.weight"] = of_part.clone()
    return tensors
