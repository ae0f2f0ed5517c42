"""vLLM servers behind the engine protocol: tokens in, tokens and log-probabilities out, over HTTP.

engine.py keeps the protocol. pool.py has the servers: which are up, which gets a request (routing.py),
which adapters they hold. client.py sends one server's requests, protocol.py words them. A server
needs `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and must see adapter folders under the paths
they have here.
"""

from burnish.serving.engine.vllm.engine import VllmEngine
from burnish.serving.engine.vllm.errors import BadAdapter, Unreachable
from burnish.serving.engine.vllm.server import Patience

__all__ = ["BadAdapter", "Patience", "Unreachable", "VllmEngine"]
