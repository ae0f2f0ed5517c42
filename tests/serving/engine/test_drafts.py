"""Drafts are made while they are faster, for as many sequences as there are."""

from burnish.serving.engine.drafts import DraftMonitor, MTPDraft


def test_what_does_not_pay_is_seldom_tried() -> None:
    monitor, tried = DraftMonitor(), 0
    for _ in range(640):
        drafted = monitor.worthwhile(1)
        tried += drafted
        monitor.record(drafted, 1, 2 if drafted else 1, 0.01 if drafted else 0.001)
    assert not monitor.pays(1)
    assert 2 <= tried < 30
    for _ in range(1000):  # and where it comes to pay, it stays
        drafted = monitor.worthwhile(1)
        monitor.record(drafted, 1, 8 if drafted else 1, 0.001)
    assert monitor.pays(1)


def test_one_stream_tells_nothing_of_many() -> None:
    monitor = DraftMonitor()
    for _ in range(10):
        monitor.record(True, 1, 1, 0.1)
        monitor.record(False, 1, 1, 0.01)
    assert not monitor.pays(1)
    assert monitor.pays(8)
    assert monitor.worthwhile(8)


def test_drafts_grow_with_what_is_accepted() -> None:
    draft, lengths = MTPDraft(), []
    for accepted in (1, 2, 3, 4, 0, 1):
        draft.update(draft.length, accepted)
        lengths.append(draft.length)
    assert lengths == [2, 3, 4, 4, 1, 2]
    draft.tokens = [3, 5]
    assert (draft.take(), draft.take()) == ([3, 5], [])
