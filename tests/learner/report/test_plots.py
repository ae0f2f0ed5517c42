"""The PNGs are drawn, of a full report and of an empty one."""

from pathlib import Path

import pytest
from burnish.learner.report.data import Bounds, ReportData
from burnish.learner.report.make import make
from burnish.learner.report.plots import draw
from matplotlib.image import imread

from tests.learner.report.rows import judged, update

FULL = judged(
    {1: 150, 2: 60, 3: 60, 4: 10},
    taste=0.2,
    shown={3: 0.9},
    believed={3: 0.4},
    updates=[update(2), update(3), update(4)],
)


@pytest.mark.parametrize("data", [FULL, ReportData(policy="shop", at=0.0)], ids=["full", "empty"])
def test_both_pictures_are_drawn(data: ReportData, tmp_path: Path):
    report = make(data, bounds=Bounds(500, 60.0))
    drawn = draw(report, tmp_path / "new" / "folder")
    assert [path.name for path in drawn] == ["liked.png", "versions.png"]
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")
        pixels = imread(path)
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 500
        coloured = int((pixels[..., :3].std(axis=2) > 0.1).sum())
        assert coloured > 200 if data is FULL else coloured == 0, "points and bars, or none"
