"""The figures, outline images and captions that the demo's ControlNet is trained on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdrt_engines import Array
from sdrt_export.demo.drawing import (
    IMAGE_SIZE,
    Placement,
    mask_from_scene,
    outlines_at,
    place_scene,
)
from sdrt_export.demo.grammar import ALL_SCENES, SHAPES, Scene, Shape, caption_from_scene
from sdrt_export.demo.outlines import (
    LARGEST_TURN,
    RADII,
    Figure,
    described,
    draw_figure,
    draw_figure_caption,
    draw_outline_image,
    edge_image_from_mask,
    edges_of,
    image_from_outlines,
    image_of_figure,
    main,
)

MIDDLE = (IMAGE_SIZE / 2, IMAGE_SIZE / 2)


def _figures(num: int) -> list[Figure]:
    rng = np.random.default_rng(21)
    return [draw_figure(rng) for _ in range(num)]


def _touches_border(image: Array) -> bool:
    return any(side.any() for side in (image[0], image[-1], image[:, 0], image[:, -1]))


def test_figures_lie_wholly_inside_the_image_and_differ() -> None:
    figures = _figures(200)
    for figure in figures:
        assert figure.mask.max() == 1
        assert not _touches_border(figure.mask)
        assert not _touches_border(image_from_outlines(figure.outlines, width=3))
        assert RADII[0] <= figure.placement.radius <= RADII[1]
        assert abs(figure.placement.turn) <= LARGEST_TURN
    assert {figure.shape for figure in figures} == set(SHAPES)
    assert len(set(figures)) == len(figures)


def test_a_turn_goes_clockwise_about_the_centre() -> None:
    upright = outlines_at("diamond", Placement((60.0, 70.0), 20.0))[0]
    turned = outlines_at("diamond", Placement((60.0, 70.0), 20.0, np.pi / 2))[0]
    top, right = upright[0], turned[0]
    np.testing.assert_allclose(top, (60, 70 - 22))
    np.testing.assert_allclose(right, (60 + 22, 70))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("width", "smooth"), [(1, False), (1, True), (2, True), (3, False)])
def test_lines_lie_on_the_edge_of_the_mask(shape: Shape, width: int, smooth: bool) -> None:
    figure = Figure(shape, Placement((61.3, 66.8), 33.0, 0.2))
    lines = image_from_outlines(figure.outlines, width, smooth=smooth)
    rows, columns = np.nonzero(lines > 40)
    outlines = np.concatenate([_dense(outline) for outline in figure.outlines])
    pixels = np.stack([columns, rows], axis=1) + 0.5  # pixel centres
    distances = np.linalg.norm(pixels[:, None] - outlines[None], axis=-1)
    assert distances.min(axis=1).max() <= width / 2 + 1.0
    assert distances.min(axis=0).max() <= 1.1  # the line is unbroken
    assert np.abs((pixels - outlines[distances.argmin(axis=1)]).mean(axis=0)).max() < 0.2


def _dense(outline: Array) -> Array:
    """Points along the outline, four per pixel."""
    sides = zip(outline, np.roll(outline, -1, axis=0), strict=True)
    return np.concatenate(
        [np.linspace(a, b, int(4 * np.linalg.norm(b - a)) + 2, endpoint=False) for a, b in sides]
    )


def test_only_smooth_lines_have_shades() -> None:
    outlines = Figure("circle", Placement(MIDDLE, 30.0)).outlines
    assert set(np.unique(image_from_outlines(outlines, smooth=False))) == {0, 255}
    assert len(np.unique(image_from_outlines(outlines, smooth=True))) > 4


def test_wider_lines_are_wider() -> None:
    outlines = Figure("heart", Placement(MIDDLE, 30.0)).outlines
    for smooth in (False, True):
        light = [image_from_outlines(outlines, w, smooth=smooth).mean() for w in (1, 2, 3)]
        assert light[0] * 1.5 < light[1] < light[2] * 0.8


def test_edges_are_the_rim_of_the_inside() -> None:
    inside = np.zeros((7, 7), bool)
    inside[1:6, 1:6] = True
    rim = inside.copy()
    rim[2:5, 2:5] = False
    np.testing.assert_array_equal(edges_of(inside), rim)


def test_the_edge_of_the_image_is_no_edge() -> None:
    inside = np.zeros((6, 6), bool)
    inside[:, :3] = True
    only_the_right_side = np.zeros((6, 6), bool)
    only_the_right_side[:, 2] = True
    np.testing.assert_array_equal(edges_of(inside), only_the_right_side)


def test_a_ring_has_two_edges() -> None:
    mask = mask_from_scene(Scene("ring", "red", "white", "large"))
    middle_row = edge_image_from_mask(mask)[IMAGE_SIZE // 2]
    assert np.count_nonzero(middle_row) == 4


def test_every_style_of_outline_is_drawn() -> None:
    rng = np.random.default_rng(22)
    figure = Figure("star", Placement(MIDDLE, 36.0))
    images = [draw_outline_image(figure, rng) for _ in range(60)]
    assert {(p.shape, p.dtype.name, p.max()) for p in images} == {((128, 128), "uint8", 255)}
    assert len({p.tobytes() for p in images}) == 7  # smooth and hard in three widths, edges


def test_an_image_has_the_scenes_colours_and_the_figures_place() -> None:
    figure = Figure("square", Placement((40.0, 80.0), 20.0))
    image = image_of_figure(figure, Scene("star", "white", "black", "large", "top"))
    assert (image[80, 40] == 245).all()
    assert (image[20, 64] == 15).all()


def test_a_figure_is_described_in_its_own_words_and_the_scenes_colours() -> None:
    figure = Figure("square", Placement((40.0, 66.0), 41.0))
    scene = Scene("star", "white", "black", "small", "top")
    assert described(figure, scene) == Scene("square", "white", "black", "large", "left")


def test_every_scene_is_described_as_itself() -> None:
    for scene in ALL_SCENES:
        assert described(Figure(scene.shape, place_scene(scene)), scene) == scene


def test_captions_tell_the_truth_about_colours_and_seldom_about_shapes() -> None:
    rng = np.random.default_rng(23)
    figure, scene = Figure("square", Placement((40.0, 66.0), 41.0)), ALL_SCENES[-1]
    captions = [draw_figure_caption(figure, scene, rng).lower() for _ in range(600)]
    assert all(
        f"{scene.colour} " in caption and f"on {scene.ground}" in caption.replace(" a ", " ")
        for caption in captions
    )
    share = {
        word: np.mean([word in caption for caption in captions])
        for word in ("square", "left", " shape ", scene.shape)
    }
    assert share["square"] == share["left"] == pytest.approx(1 / 3, abs=0.06)
    assert share[" shape "] == pytest.approx(1 / 6, abs=0.05)
    assert share[scene.shape] == pytest.approx(1 / 2, abs=0.06)
    assert scene.shape in caption_from_scene(scene)


def test_the_command_line_draws_one_outline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "square.png"
    monkeypatch.setattr("sys.argv", ["outlines", "square", str(path)])
    main()
    image = np.asarray(Image.open(path))
    assert image.shape == (IMAGE_SIZE, IMAGE_SIZE)
    rows, columns = np.nonzero(image)
    assert rows.min() == columns.min() and rows.max() == columns.max()  # a square, in the middle
    assert rows.min() + rows.max() == IMAGE_SIZE - 1
