"""Which tool calls failed, as the answer itself tells."""

import pytest
from burnish.learner.alarms.tool_calls import failed

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {}}, "required": ["city"]},
    },
}


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ({"name": "weather", "arguments": '{"city": "Oslo"}'}, False),
        ({"name": "weather", "arguments": '{"city": "Os'}, True),
        ({"name": "weather", "arguments": "{}"}, True),
        ({"name": "weather", "arguments": "[1]"}, True),
        ({"name": "wether", "arguments": '{"city": "Oslo"}'}, True),
    ],
)
def test_a_call_fits_the_tool_it_names(call, found):
    assert failed("", [call], [WEATHER]) is found


def test_a_call_that_could_not_be_read_failed():
    assert failed('<tool_call>{"name": "wea', None, [WEATHER]) is True


def test_an_answer_without_a_call_or_without_tools_tells_nothing():
    assert failed("It rains.", None, [WEATHER]) is None
    assert failed("<tool_call>", [{"name": "weather"}], None) is None
