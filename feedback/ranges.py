"""How large what comes from outside may be: one type per kind of number and text.

Requests and events are declared with these, so that no number is too big for the column, the array
or the protocol it ends in, and no text is without a limit. A number outside is an error that names
its field. Left out: what a value means, which its field says, and the size of a body as a whole.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import Field, StringConstraints

T = TypeVar("T")

MAX_CHOICES = 128  # answers to one prompt
MAX_BEST_OF = 16  # candidates for the answers to one prompt
MAX_INT32 = 2**31 - 1
MAX_INT64 = 2**63 - 1
YEAR_1, YEAR_9999 = -62_135_596_800.0, 253_402_300_799.0  # in seconds since 1970

Choice = Annotated[int, Field(ge=0, lt=MAX_CHOICES)]
"""Which of the answers to a prompt."""
BestOf = Annotated[int, Field(ge=1, le=MAX_BEST_OF)]
"""How many candidates."""
Count = Annotated[int, Field(ge=0, le=MAX_INT32)]
"""Of tokens, steps, things to keep."""
Positive = Annotated[int, Field(ge=1, le=MAX_INT32)]
"""A count of at least one; versions and budgets."""
Seed = Annotated[int, Field(ge=-(2**63), le=MAX_INT64)]
Token = Annotated[int, Field(ge=0, le=MAX_INT32)]
Moment = Annotated[float, Field(ge=YEAR_1, le=YEAR_9999, allow_inf_nan=False)]
"""Seconds since 1970."""
Microseconds = Annotated[int, Field(ge=0, le=MAX_INT64)]
"""Since 1970."""
Number = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Duration = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
"""Seconds."""

Word = Annotated[str, StringConstraints(max_length=64)]
"""A name that we or a model chose: roles, kinds, functions."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A name that a client chose: sessions, end users, policies with a version."""
Label = Annotated[str, StringConstraints(max_length=256)]
"""The same where nothing may stand for nobody."""
Line = Annotated[str, StringConstraints(max_length=1024)]
Paragraph = Annotated[str, StringConstraints(max_length=10_000)]
Text = Annotated[str, StringConstraints(max_length=2**22)]
"""As much as a body holds."""

# A list that is wrong is wrong at its first bad item: a million complaints help nobody.
Few = Annotated[list[T], Field(max_length=256, fail_fast=True)]
Many = Annotated[list[T], Field(max_length=10_000, fail_fast=True)]
Tokens = Annotated[list[Token], Field(max_length=2**20, fail_fast=True)]
