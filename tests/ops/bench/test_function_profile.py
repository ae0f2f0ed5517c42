"""Samples of stacks as shares of functions."""

from burnish.ops.bench.lib import function_profile

SAMPLES = """main (run.py:1);take (spool.py:3) 6
main (run.py:1);take (spool.py:9);take (spool.py:4) 2
main (run.py:2);give (routes.py:7) 2
"""


def test_a_function_counts_once_in_a_sample_whatever_its_line() -> None:
    found = function_profile.shares(SAMPLES)
    assert found == {"main (run.py)": 1.0, "take (spool.py)": 0.8, "give (routes.py)": 0.2}
    assert next(iter(found)) == "main (run.py)"


def test_without_the_profiler_there_is_no_profile(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(function_profile, "_py_spy", lambda: None)
    watching = function_profile.start(1, 1.0, tmp_path / "x")
    assert function_profile.told(watching, tmp_path / "x") == {}
