"""What each check of a pack takes for right."""

import pytest
from burnish.learner.tasks import PackError, checks
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (checks.exact(["Hello  world", "Hi"]), [" Hello world\n", "Hi"], ["hi", "Hello world!"]),
        (
            checks.number(42),
            ["42", "12 + 30 = 42.", "The sum of 12 and 30 is 42.", "**42**", "$42", "42 apples."],
            ["", "forty-two", "42 of 50", "it is 43", "-42", "x42"],
        ),
        (checks.number(-1234.5), ["-1,234.5", "−1234.5 C"], ["1234.5", "-1,23"]),
        (checks.number(10, 0.5), ["about 10.4"], ["10.6"]),
        (checks.number(0.3), [str(0.1 + 0.2)], ["0.31"]),
        (checks.regex(r"^\d{3}$"), ["123"], ["1234"]),
        (checks.contains(["Rain", "sun"]), ["sun after RAIN"], ["rain"]),
        (
            checks.schema({"type": "object", "required": ["a"]}),
            ['{"a": 1}', 'Here it is:\n```json\n{"a": 1}\n```'],
            ['{"b": 1}', "a: 1", '```\n{"a": 1}\n```\n```\n{"a": 1}\n```', 'So: {"a": 1}'],
        ),
    ],
)
def test_a_check_knows_right_from_wrong(check, right, wrong):
    assert [answer for answer in right if not check(answer)] == []
    assert [answer for answer in wrong if check(answer)] == []


@given(value=st.integers(-(10**9), 10**9), before=st.integers(0, 99))
def test_the_last_number_counts_however_it_is_grouped(value, before):
    check = checks.number(value)
    assert check(f"First {before}, then {value:,}.")
    assert not check(f"First {value}, then {value + 1}.")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: checks.regex("("), "not a regular expression"),
        (lambda: checks.schema({"type": "strin"}), "not a JSON Schema"),
    ],
)
def test_what_is_no_check_is_refused(make, why):
    with pytest.raises(PackError, match=why):
        make()


def test_a_python_check_is_a_function_beside_the_pack_or_of_a_module(tmp_path):
    (tmp_path / "ours.py").write_text("def short(answer):\n    return len(answer) < 3\n")
    assert checks.python("ours.py:short", tmp_path)("ab")
    assert not checks.python("ours.py:short", tmp_path)("abc")
    assert checks.python("keyword:iskeyword", tmp_path)("for")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("short", "write module:function"),
        ("ours.py:long", "has no function 'long'"),
        ("none.py:short", "none.py cannot be imported: FileNotFoundError"),
        ("raises.py:short", "raises.py cannot be imported: KeyError: 'x'"),
        ("no.such.module:f", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_python_check_that_is_not_there_is_named(tmp_path, name, why):
    (tmp_path / "ours.py").write_text("def short(answer):\n    return True\n")
    (tmp_path / "raises.py").write_text("{}['x']\n")
    with pytest.raises(PackError, match=why):
        checks.python(name, tmp_path)
