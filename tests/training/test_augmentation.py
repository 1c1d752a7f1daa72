"""SpecAugment: which values it changes, and to what."""

import torch

from training.augmentation import SpecAugment


def widths(changed: torch.Tensor) -> tuple[int, int]:
    """Return the numbers of features and of frames that are masked completely in a crop (time, features)."""
    return int(changed.all(0).sum()), int(changed.all(1).sum())


def test_masks_are_stretches_that_hold_the_mean_of_the_crop() -> None:
    torch.manual_seed(0)
    frames, n_frames = torch.randn(300, 100, 40), torch.full((300,), 100)
    masked = SpecAugment(1.0, features=8, frames=20)(frames, n_frames)
    changed = masked != frames
    means = frames.mean((1, 2))[:, None, None].expand_as(frames)
    assert torch.allclose(masked[changed], means[changed], atol=1e-5)
    found = [widths(each) for each in changed]
    assert {features for features, _ in found} == set(range(9))
    assert {count for _, count in found} == set(range(21))
    for each, (features, count) in zip(changed, found, strict=True):
        for axis, width in ((0, features), (1, count)):
            places = each.all(axis).nonzero()[:, 0]
            assert width == 0 or int(places[-1] - places[0]) + 1 == width
        # Nothing is masked outside of the two stretches.
        assert torch.equal(each, each.all(0)[None] | each.all(1)[:, None])


def test_probability_is_that_of_each_mask() -> None:
    torch.manual_seed(0)
    frames, n_frames = torch.randn(2000, 50, 40), torch.full((2000,), 50)
    changed = SpecAugment(0.3)(frames, n_frames) != frames
    by_feature, by_frame = changed.all(1).any(1).float().mean(), changed.all(2).any(1).float().mean()
    # A mask may have width 0: 8 of 9 and 20 of 21 do not. Five standard errors of 2,000 draws are 0.05.
    assert abs(by_feature - 0.3 * 8 / 9) < 0.05
    assert abs(by_frame - 0.3 * 20 / 21) < 0.05
    assert torch.equal(SpecAugment(0.0)(frames, n_frames), frames)


def test_masks_of_short_crops_do_not_depend_on_the_padding() -> None:
    frames, n_frames = torch.randn(300, 60, 40), torch.full((300,), 60)
    torch.manual_seed(0)
    alone = SpecAugment(1.0)(frames, n_frames)
    torch.manual_seed(0)
    padded = SpecAugment(1.0)(torch.nn.functional.pad(frames, (0, 0, 0, 900)), n_frames)
    assert torch.equal(padded[:, :60], alone)


def test_padding_stays_zero_and_is_not_in_the_mean() -> None:
    torch.manual_seed(0)
    frames, n_frames = torch.randn(50, 100, 40) + 5, torch.randint(1, 100, (50,))
    valid = (torch.arange(100) < n_frames[:, None])[..., None]
    frames = frames * valid
    masked = SpecAugment(1.0)(frames, n_frames)
    assert not (masked * ~valid).any()
    changed = masked != frames
    means = (frames.sum((1, 2)) / (n_frames * 40))[:, None, None].expand_as(frames)
    assert torch.allclose(masked[changed], means[changed], atol=1e-4)
