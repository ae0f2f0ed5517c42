"""Gates of a product's own: code that sees a candidate beside its references and says whether it may serve.

A gate is a function `(Trial) -> Check`, or to several checks, under a name in the entry-point group
`burnish.gates`, or named as `package.module:function` or `file.py:function`:

    def knows_the_shop(trial):
        said = trial.ask([[{"role": "user", "content": "When do you close?"}]])
        right = "18" in said["candidate"][0]
        return Check(name="opening hours", value=float(right), low=1, passed=right,
                     says="the opening hours are known" if right else "it does not know when we close")

The burden of proof holds here too: a gate that raises has not been passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from burnish.learner.gate.answers import Panel, Question
from burnish.learner.gate.limits import GateLimits
from burnish.learner.gate.report import Check
from burnish.learner.tasks import PackError, Task
from burnish.learner.tasks import checks as task_checks

GROUP = "burnish.gates"

Messages = Sequence[Mapping[str, Any]]


class GateError(ValueError):
    """A gate that cannot be used, or that raised: which, and why."""


@dataclass(frozen=True)
class Trial:
    """What a gate is given: the policies that can be asked, and the limits."""

    panel: Panel
    limits: GateLimits

    @property
    def policies(self) -> list[str]:
        """`candidate`, then with whom it may be compared: `champion`, where it is not the base, and `base`."""
        return ["candidate", *self.panel.references]

    def ask(
        self, chats: Sequence[Messages], *, tools: Sequence[Mapping[str, Any]] = (), seed: int = 0
    ) -> dict[str, list[str]]:
        """By policy, the text of one answer to each chat in OpenAI's shape, sampled at temperature 1 with the
        same seeds for all."""
        questions = [
            Question(Task("own", tuple(chat), _any, tuple(tools) or None), seed + number)
            for number, chat in enumerate(chats)
        ]
        answers = self.panel.answers(questions)
        return {policy: [answer.text for answer in answers[policy]] for policy in self.policies}


Gate = Callable[[Trial], Check | Iterable[Check]]


@dataclass(frozen=True)
class OwnGate:
    """A product's gate, by its name in the setting."""

    name: str
    decide: Gate

    def checks(self, trial: Trial) -> list[Check]:
        """Its checks under its name; one that failed, where it raises."""
        try:
            return self._decided(trial)
        except GateError as error:
            says = f"{error}, which does not pass"
            return [Check(name=self.name, value=0.0, passed=False, says=says)]

    def _decided(self, trial: Trial) -> list[Check]:
        try:
            found = self.decide(trial)
            every = [found] if isinstance(found, Check) else list(found)
            return [
                Check.model_validate(check).model_copy(update={"name": f"{self.name}/{check.name}"})
                for check in every
            ]
        except Exception as error:
            # A gate is other people's code: what it raises is told, and lets nothing through.
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise GateError(f"the gate {self.name} raised {why}") from error


def open_gates(setting: str) -> list[OwnGate]:
    """The gates that a setting names, separated by commas. Raises GateError."""
    names = [name.strip() for name in setting.split(",") if name.strip()]
    return [OwnGate(name, _loaded(name)) for name in names]


def _loaded(name: str) -> Gate:
    offered = {point.name: point for point in entry_points(group=GROUP)}
    try:
        if name in offered:
            found: Any = offered[name].load()
        elif ":" in name:
            found = task_checks.python(name, Path())
        else:
            known = ", ".join(offered) or "none"
            raise GateError(
                f"{name}: no gate of that name is installed (there are: {known}); or write"
                " file.py:function"
            )
    except PackError as error:
        raise GateError(f"{name}: {error}") from error
    except GateError:
        raise
    except Exception as error:
        # Importing runs other people's code, which may raise anything.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise GateError(f"{name} cannot be imported: {why}") from error
    if not callable(found):
        raise GateError(f"{name} is no function")
    return cast(Gate, found)


def _any(answer: str) -> bool:
    return True


__all__ = ["Check", "GateError", "OwnGate", "Trial", "open_gates"]
