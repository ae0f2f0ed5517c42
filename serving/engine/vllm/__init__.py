"""A vLLM server behind the engine protocol: tokens in, tokens and log-probabilities out, over HTTP.

engine.py keeps the protocol, client.py sends the requests, protocol.py words them. The server needs
`--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and must see adapter folders under the paths
they have here.
"""

from burnish.serving.engine.vllm.client import BadAdapter, Unreachable
from burnish.serving.engine.vllm.engine import VllmEngine

__all__ = ["BadAdapter", "Unreachable", "VllmEngine"]
