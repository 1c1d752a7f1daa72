"""Pictures of the reports."""

from xml.etree import ElementTree

import numpy as np
import pytest

from evaluation.embedding_map import project_tsne
from reports import draw_score_histogram, score_histogram_svg
from reports.comparison_pictures import draw_confusion, draw_curves
from reports.verification_pictures import draw_det_curve
from verification import ScoreHistogram, SpeakerVerifier

HISTOGRAM = ScoreHistogram(edges=(-4.0, -1.0, 2.0, 5.0), same_counts=(1, 2, 7), different_counts=(50, 8, 2))


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


@pytest.mark.parametrize(("llr", "place"), [(1.5, 1.5), (-4.0, -4.0), (9.0, 5.0), (-60.25, -4.0)])
def test_pair_is_marked_in_the_histogram_or_at_its_end(llr: float, place: float) -> None:
    figure = draw_score_histogram(HISTOGRAM, llr)
    (axes,) = figure.axes
    (line,) = [each for each in axes.lines if each.get_gid() == "pair"]
    assert np.asarray(line.get_xdata()).tolist() == [place, place]
    assert ("outside" in {each.get_gid() for each in axes.texts}) == (llr != place)
    assert axes.get_xlim() == (-4.0, 5.0)
    figure.canvas.draw()
    for text in axes.texts:
        assert figure.bbox.x0 <= text.get_window_extent().x0
        assert text.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("llr", [1.5, -60.25])
def test_element_has_the_marker_and_the_text_in_the_colour_of_the_page(llr: float) -> None:
    element = score_histogram_svg(HISTOGRAM, llr)
    assert element == score_histogram_svg(HISTOGRAM, llr)
    root = ElementTree.fromstring(element)
    assert root.get("aria-label") == f"Log-likelihood ratio of this pair: {llr:.2f}. {HISTOGRAM.describe(llr)}"
    assert (root.get("role"), root.get("fill")) == ("img", "currentColor")
    texts = [each for each in root.iter() if each.tag.endswith("}text")]
    assert not [each for each in texts if "fill" in (each.get("style") or "")]
    shown = {each.text for each in texts}
    assert {"log-likelihood ratio", "same speaker", "different speakers"} < shown
    assert f"this pair: {llr:.2f}".replace("-", "\N{MINUS SIGN}") in shown
    (marker,) = [each for each in root.iter() if each.get("id") == "pair_histogram-pair"]
    assert "currentColor" in ElementTree.tostring(marker, encoding="unicode")
    assert "#000000" not in element


def test_histogram_of_any_verifier_can_be_drawn() -> None:
    ready = SpeakerVerifier.ready().score_histogram
    assert ready is not None
    for histogram in (ready, ScoreHistogram.measure([True, False], [0.0, 0.0])):
        assert "this pair" in score_histogram_svg(histogram, 0.0)
