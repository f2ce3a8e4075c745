"""Changes of colours: what the authors' public script does to ImageNet's images besides cropping them."""

import pytest
import torch

from stimcore.train.augment import ColourChange, colour_change, random_views


def test_colours_change_by_jitter_and_lighting_and_the_same_in_every_size() -> None:
    image = torch.randint(0, 256, (3, 20, 30), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    plain = random_views(image, (12, 12), colours=False, place=(0, 1))
    coloured = random_views(image, (12, 12), colours=True, place=(0, 1))
    assert torch.equal(coloured[0], coloured[1])
    assert not torch.equal(plain[0], coloured[0])
    change = colour_change("colour", 0, 1)
    assert torch.equal(coloured[0], change.apply(plain[0]))
    assert change == colour_change("colour", 0, 1)
    changes = [colour_change(place) for place in range(300)]
    factors = torch.tensor([each.factors for each in changes])
    assert 0.6 <= float(factors.min()) < 0.62
    assert 1.38 < float(factors.max()) <= 1.4
    # red moves by the first component's weight above all: 0.1 * 0.2175 * 0.5675
    red = torch.tensor([each.shift[0] for each in changes])
    assert float(red.std()) == pytest.approx(0.1 * 0.2175 * 0.5675, rel=0.15)
    assert {tuple(sorted(each.order)) for each in changes} == {(0, 1, 2, 3)}


def test_a_change_of_colours_by_hand() -> None:
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    brighter = ColourChange((0, 1, 2, 3), (1.2, 1.0, 1.0), (0.1, 0.0, -0.1))
    assert brighter.apply(grey).amax(dim=(1, 2)).tolist() == [146, 120, 94]  # 120, moved by 25.5 upwards and downwards
    white = torch.full((3, 4, 4), 250, dtype=torch.uint8)
    assert brighter.apply(white).amax(dim=(1, 2)).tolist()[:2] == [255, 255]
