"""Pictures of the reports."""

import numpy as np
import pytest

from evaluation.embedding_map import project_tsne
from reports.comparison_pictures import draw_confusion, draw_curves
from reports.verification_pictures import draw_det_curve


def test_confusion_of_many_speakers_has_a_point_for_each_cell() -> None:
    cells = [{"speaker": f"{n:02d}", "predicted": f"{(n + 1) % 80:02d}", "count": "1"} for n in range(80)]
    (axes,) = draw_confusion(cells, [f"{n:02d}" for n in range(80)]).axes
    correct, wrong = axes.collections
    assert (np.shape(correct.get_offsets()), np.shape(wrong.get_offsets())) == ((0, 2), (80, 2))
    assert not axes.lines


def test_curve_without_errors_is_drawn_on_the_edges() -> None:
    points = [{"backend": "x", "false_accept": str(a), "miss": str(m)} for a, m in ((1, 0), (0, 0), (0, 1))]
    (axes,) = draw_det_curve(points, [{"backend": "x", "trials": "all", "eer": 0.0}]).axes
    curve = np.asarray(axes.lines[0].get_xydata())
    assert np.isfinite(curve).all()
    low, high = axes.get_xlim()
    assert curve.min() == pytest.approx(low)
    assert curve.max() == pytest.approx(high)


def test_legend_of_many_curves_fits() -> None:
    curves = {
        f"{head} on {name}": [{"train_loss": 1.0, "val_accuracy": 0.5}] * 3
        for head in ("linear", "mlp", "bn_mlp", "cosine", "weighted")
        for name in ("wav2vec2-base-960h", "audiosep-hive-clap")
    }
    figure = draw_curves(curves)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().width <= figure.bbox.width


def test_equal_vectors_are_mapped_to_one_point() -> None:
    assert not project_tsne(np.ones((50, 8))).any()
    assert project_tsne(np.random.default_rng(0).normal(size=(2, 8))).shape == (2, 2)
