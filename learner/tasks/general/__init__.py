"""The built-in pack for any instruction model: what a chat model must not lose while users vote.

    numbers.py      sums and comparisons in plain words
    formats.py      instructions whose keeping a program can see (the idea of IFEval, Zhou et al. 2023), JSON
    tools.py        calling the tool that fits
    manners.py      refusing what harms, helping with what only sounds so, keeping the user's language

Checks look at what was asked alone, so any wording passes. It is calibrated to each base at the first
update: see gate/calibration.py.
"""

from burnish.learner.tasks.general import formats, manners, numbers, tools
from burnish.learner.tasks.pack import GeneratorPack

PACK = GeneratorPack(
    "general",
    {
        **numbers.GENERATORS,
        **formats.GENERATORS,
        **tools.GENERATORS,
        **manners.GENERATORS,
    },
    calibrated=True,
)
