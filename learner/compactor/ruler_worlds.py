"""RULER-style logs (arXiv 2404.06654): needles among other needles, and chains of variables.

Rewritten as agent logs: steps of plain filler with single lines that matter.
"""

from __future__ import annotations

from random import Random

from burnish.learner.compactor.pattern import Pattern
from burnish.learner.compactor.world import (
    OVERHEAD,
    Count,
    LogBuilder,
    World,
    WorldQuestion,
    rough_count,
)

RULER_FACTS = (
    Pattern("needle", "One of the special magic numbers for {key} is: {value}."),
    Pattern("assign", "VAR {variable} = {value}"),
    Pattern("copy", "VAR {variable} = VAR {source}"),
)
RULER_QUESTIONS = (
    Pattern("needle", "What is the special magic number for {key} mentioned in the text?"),
    Pattern("variables", "Find all variables that are assigned the value {value} in the text."),
)
_FILLER = (
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.",
    "A train passed the station without stopping, and nobody on the platform looked up.",
    "The number of boats in the harbour varies with the season and with the price of fish.",
    "Some texts mention magic, others mention special numbers, most mention neither.",
    "The value of a long walk is hard to state and easy to find out.",
)
_FIRST = [
    "amber",
    "brisk",
    "calm",
    "dusty",
    "eager",
    "faint",
    "gentle",
    "hollow",
    "iron",
    "jolly",
    "keen",
    "lucid",
    "mellow",
    "noble",
]
_SECOND = [
    "anchor",
    "bridge",
    "candle",
    "dragon",
    "engine",
    "forest",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
]


def needles(seed: int, tokens: int, count: Count = rough_count, keys: int = 40) -> World:
    """`keys` needles spread over a log of about `tokens`; ten of them are asked for."""
    rng = Random(f"needles/{seed}")
    pairs = rng.sample([f"{a}-{b}" for a in _FIRST for b in _SECOND], keys)
    lines = {key: str(rng.randrange(10**6, 10**7)) for key in pairs}
    texts = [RULER_FACTS[0].fill({"key": key, "value": value}) for key, value in lines.items()]
    steps, places = _spread(rng, tokens, count, texts)
    chosen = rng.sample(range(keys), 10)
    questions = [
        WorldQuestion(
            "needle",
            RULER_QUESTIONS[0].fill({"key": pairs[i]}),
            lines[pairs[i]],
            (places[i],),
        )
        for i in chosen
    ]
    return World(seed, steps, tuple(questions))


def variables(
    seed: int,
    tokens: int,
    count: Count = rough_count,
    chains: int = 4,
    hops: int = 4,
) -> World:
    """`chains` variables copied `hops` times each; every chain is asked for."""
    rng = Random(f"variables/{seed}")
    names = rng.sample(
        [f"{a}{b}{c}" for a in "ABCDEFGH" for b in "KLMNPQR" for c in "STVWXYZ"], 300
    )
    values = [str(v) for v in rng.sample(range(10000, 99999), chains)]
    links = [[names.pop() for _ in range(hops + 1)] for _ in range(chains)]
    # Chains are interleaved, and each keeps its own order.
    order = [chain for chain in range(chains) for _ in range(hops + 1)]
    rng.shuffle(order)
    done, texts = [0] * chains, []
    for chain in order:
        at, done[chain] = done[chain], done[chain] + 1
        variable = links[chain][at]
        if at == 0:
            texts.append(RULER_FACTS[1].fill({"variable": variable, "value": values[chain]}))
        else:
            slots = {"variable": variable, "source": links[chain][at - 1]}
            texts.append(RULER_FACTS[2].fill(slots))
    steps, places = _spread(rng, tokens, count, texts)
    questions = [
        WorldQuestion(
            "variables",
            RULER_QUESTIONS[1].fill({"value": values[chain]}),
            ", ".join(sorted(links[chain])),
            tuple(place for place, of in zip(places, order, strict=True) if of == chain),
        )
        for chain in range(chains)
    ]
    return World(seed, steps, tuple(questions))


def _spread(rng: Random, tokens: int, count: Count, texts: list[str]) -> tuple[tuple, list[int]]:
    """Filler of about `tokens` with `texts` in order at random places."""
    log = LogBuilder(rng, count)
    log.say("system", "Read along; questions come at the end.")
    log.say("user", "Remember what matters.", kind="task")
    fillers: list[str] = []
    available = tokens - sum(count(text) + OVERHEAD for text in texts)
    while available > 0:
        filler = " ".join(rng.choices(_FILLER, k=rng.randrange(1, 9)))
        available -= count(filler) + OVERHEAD
        fillers.append(filler)
    slots = sorted(rng.choices(range(len(fillers) + 1), k=len(texts)))
    places: list[int] = []
    for at in range(len(fillers) + 1):
        while len(places) < len(texts) and slots[len(places)] == at:
            places.append(log.say("user", texts[len(places)]))
        if at < len(fillers):
            log.say(rng.choice(("user", "assistant")), fillers[at])
    return tuple(log.steps), places
