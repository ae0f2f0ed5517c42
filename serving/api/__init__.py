"""The HTTP API: routes, requests made for the engine, OpenAI's shapes, keys."""
