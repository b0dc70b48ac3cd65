import colorsys

import numpy as np
import pytest
from patchwork.stimuli import lines, views
from patchwork.stimuli.common import rng
from PIL import Image
from scipy import ndimage, stats

ARMS = {
    "upright": {},
    "turned": {"rotation_deg": 45},
    "turned_22": {"rotation_deg": 22.5},
    "isotropic": {"isotropic": True},
    "natural": {"colour": "natural"},
    "blue_poor": {"colour": "blue_poor"},
    "yellow_poor": {"colour": "yellow_poor"},
    "hue_rotated": {"colour": "hue_rotated", "hue_rotation_deg": 120},
}


def condition(**changes):
    return views.parse_settings({"image_px": 32, "magnification": 1.5, **changes})


def noise(n, side, seed=1):
    return np.random.Generator(np.random.Philox(seed)).integers(
        0, 256, (n, side, side, 3), dtype=np.uint8
    )


def smooth(n, side, seed=1):
    """Coloured pictures whose structure is wider than a few px."""
    fine = noise(n, side, seed).astype(float)
    blurred = ndimage.gaussian_filter(fine, (0, 1.5, 1.5, 0))
    return np.clip(127.5 + 4 * (blurred - 127.5), 0, 255).astype(np.uint8)


def grey(levels):
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=-1)


def ramps(n, side):
    """Pictures that grow brighter to the right."""
    return grey(np.broadcast_to(np.linspace(30, 220, side), (n, side, side)))


def look(pictures, settings, seed=3, first=0):
    return views.view(
        pictures, settings, seed=seed, indices=np.arange(first, first + len(pictures))
    )


def within(px, share=0.75):
    """Px well inside the disc, and their places."""
    place = np.arange(px) - (px - 1) / 2
    return np.hypot(place[:, None], place[None]) < share * px / 2, place


def direction_deg(one):
    """Where a picture grows brighter: 0 to the right, 90 down."""
    inside, place = within(len(one))
    x, y = np.broadcast_to(place, inside.shape)[inside], np.repeat(place, len(one))[inside.ravel()]
    table = np.stack([x, y, np.ones_like(x)], axis=1)
    across, down, _ = np.linalg.lstsq(table, one[..., 1][inside].astype(float), rcond=None)[0]
    return np.rad2deg(np.arctan2(down, across))


def orientation_deg(one):
    """Orientation of the edges of a picture from its gradients, 0 to 180."""
    inside, _ = within(len(one), 0.7)
    level = one[..., 1].astype(float)
    across = ndimage.gaussian_filter(level, 1.5, order=(0, 1))[inside]
    down = ndimage.gaussian_filter(level, 1.5, order=(1, 0))[inside]
    normal = np.arctan2(2 * (across * down).sum(), (across**2 - down**2).sum()) / 2
    return np.mod(np.rad2deg(normal) + 90, 180)


def apart(one, other, period):
    gap = np.mod(np.asarray(one) - other, period)
    return np.minimum(gap, period - gap)


def flipped(n, seed=3):
    """Which views are mirrored; a ramp shows it."""
    seen = look(ramps(n, 48), condition(), seed)
    return np.array([apart(direction_deg(one), 180, 360) < 90 for one in seen])


BARS = lines.generate(
    {
        "image_px": 160, "length_px": {"min": 60, "max": 79}, "width_px": {"min": 5, "max": 5},
        "palette": "white", "margin": "length", "noise_levels": [0.0], "rasteriser": "antialiased",
    },
    seed=5, indices=range(12),
)  # fmt: skip


def bars():
    """Each line in the middle of a picture of its own."""
    out = []
    for one, x, y in zip(
        BARS.images, BARS.labels["mid_x_px"], BARS.labels["mid_y_px"], strict=True
    ):
        moved = ndimage.shift(one[..., 0].astype(float), (79.5 - y, 79.5 - x), order=1)
        out.append(grey(np.clip(moved, 0, 255))[30:130, 30:130])
    return np.stack(out)


@pytest.mark.parametrize("turn", [45.0, 22.5, -30.0, 90.0])
def test_the_bar_of_a_turned_view_has_turned_as_lines_turn(turn):
    drawn = bars()
    measured = np.array([orientation_deg(one) for one in drawn])
    assert apart(measured, BARS.labels["orientation_deg"], 180).max() < 1.5
    mirrored = flipped(len(drawn))
    assert 0 < mirrored.sum() < len(drawn)
    shown = np.where(mirrored, -measured, measured)
    settings = {"image_px": 64, "magnification": 0.9}
    upright = look(drawn, condition(**settings))
    assert apart([orientation_deg(v) for v in upright], shown, 180).max() < 1.5
    turned = look(drawn, condition(**settings, rotation_deg=turn))
    assert apart([orientation_deg(v) for v in turned], shown + turn, 180).max() < 1.5


@pytest.mark.parametrize("magnification", [0.6, 1.0, 2.15])
@pytest.mark.parametrize("turn", [45.0, -100.0, 180.0])
def test_a_turned_view_is_the_upright_view_turned(turn, magnification):
    """Picture, flip and cut are shared; the whole turn counts, not orientation alone."""
    width = 2 / min(magnification, 1)
    pictures = ndimage.gaussian_filter(smooth(6, 90), (0, width, width, 0))
    settings = {"image_px": 48, "magnification": magnification}
    upright = look(pictures, condition(**settings)).astype(float)
    turned = look(pictures, condition(**settings, rotation_deg=turn)).astype(float)
    inside, _ = within(48)
    for one, other in zip(upright, turned, strict=True):
        same, opposite = (
            np.asarray(
                Image.fromarray(one[..., 1].astype(np.uint8)).rotate(
                    sign * turn, Image.Resampling.BICUBIC
                )
            )
            for sign in (-1, 1)
        )
        assert np.abs(same - other[..., 1])[inside].mean() < 4
        if turn != 180:
            assert np.abs(opposite - other[..., 1])[inside].mean() > 10


def test_no_turn_is_the_upright_arm_bit_for_bit():
    pictures = smooth(8, 40)
    upright = look(pictures, condition())
    assert np.array_equal(look(pictures, condition(rotation_deg=0)), upright)
    assert np.array_equal(look(pictures, condition(rotation_deg=-0.0, isotropic=False)), upright)
    full = look(pictures, condition(rotation_deg=360)).astype(int)
    assert np.abs(full - upright).max() <= 3
    assert np.abs(full - upright).mean() < 0.02
    assert not np.array_equal(look(pictures, condition(rotation_deg=1)), upright)


def naive(picture, settings, draw):
    """The view of a grey picture, px by px: cubic convolution (a = -1) at the mapped place."""
    px, side, level = settings.image_px, len(picture), picture[..., 1].astype(float)
    room = side / 2 - (px / 2 - 0.5) / settings.magnification
    centre_x, centre_y = side / 2 + room * (2 * draw[1] - 1), side / 2 + room * (2 * draw[2] - 1)
    turn = np.deg2rad(settings.rotation_deg + (360 * draw[3] if settings.isotropic else 0))
    mirrored = -1 if draw[0] < 0.5 else 1

    def weight(d):
        d = abs(d)
        if d < 1:
            return d**3 - 2 * d**2 + 1
        return -(d**3) + 5 * d**2 - 8 * d + 4 if d < 2 else 0.0

    out = np.zeros((px, px))
    mask = np.zeros((px, px))
    for row in range(px):
        for column in range(px):
            u, v = column - (px - 1) / 2, row - (px - 1) / 2
            ramp = min(max((px / 2 - 0.5 - np.hypot(u, v)) / (3 * px / 64), 0), 1)
            mask[row, column] = (1 - np.cos(np.pi * ramp)) / 2
            if mask[row, column] == 0:
                continue
            u, v = u / settings.magnification, v / settings.magnification
            x = centre_x + mirrored * (np.cos(turn) * u + np.sin(turn) * v) - 0.5
            y = centre_y - np.sin(turn) * u + np.cos(turn) * v - 0.5
            total = 0.0
            for j in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
                for i in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                    near = level[min(max(j, 0), side - 1), min(max(i, 0), side - 1)]
                    total += near * weight(x - i) * weight(y - j)
            out[row, column] = np.floor(min(max(total, 0), 255))  # as PIL does
    mean = (mask * out).sum() / mask.sum()
    rms = np.sqrt((mask * (out - mean) ** 2).sum() / mask.sum())
    return np.clip(127.5 + 0.2 * 255 / rms * mask * (out - mean), 0, 255)


@pytest.mark.parametrize("name", ["upright", "turned", "isotropic"])
def test_every_arm_is_resampled_in_the_same_single_step(name):
    pictures = smooth(3, 26)[..., :1].repeat(3, axis=-1)
    settings = condition(image_px=24, magnification=1.3, **ARMS[name])
    draws = rng.uniforms(3, np.arange(3), 4)
    for one, picture, draw in zip(look(pictures, settings), pictures, draws, strict=True):
        gap = np.abs(one[..., 1] - naive(picture, settings, draw))[within(24)[0]]
        # Half a level of rounding in the end, and now and then one more in between.
        assert gap.max() <= 2
        assert gap.mean() < 0.35


@pytest.mark.parametrize("name", ARMS)
def test_any_split_into_batches_gives_the_same_bytes(name):
    pictures, settings = noise(7, 30), condition(**ARMS[name])
    whole = look(pictures, settings)
    for cut in (1, 3, 6):
        parts = [look(pictures[:cut], settings), look(pictures[cut:], settings, first=cut)]
        assert np.array_equal(np.concatenate(parts), whole)
    order = np.array([4, 0, 6, 4])
    some = views.view(pictures[order], settings, seed=3, indices=order)
    assert np.array_equal(some, whole[order])
    assert not np.array_equal(look(pictures, settings, seed=4), whole)


def test_the_turn_of_an_isotropic_view_is_uniform():
    n = 600
    pictures = ramps(n, 24)
    settings = {"image_px": 16, "magnification": 1.0}
    upright = np.array([direction_deg(v) for v in look(pictures, condition(**settings))])
    turned = np.array(
        [direction_deg(v) for v in look(pictures, condition(**settings, isotropic=True))]
    )
    assert apart(upright, 0, 180).max() < 1
    turn = np.mod(turned - upright, 360) / 360
    assert stats.kstest(turn, "uniform").pvalue > 0.01
    # It has nothing to do with flip and cut.
    mirrored = apart(upright, 180, 360) < 90
    assert stats.ks_2samp(turn[mirrored], turn[~mirrored]).pvalue > 0.01
    assert 0.4 < mirrored.mean() < 0.6
    fixed = look(pictures[:20], condition(**settings, isotropic=True, rotation_deg=50))
    gained = [direction_deg(v) for v in fixed] - turned[:20]
    assert apart(gained, 50, 360).max() < 2


@pytest.mark.parametrize("name", ARMS)
def test_outside_the_disc_all_is_mean_grey_and_inside_mean_and_contrast_are_equal(name):
    px = 48
    pictures = smooth(4, 60).astype(float)
    pictures = 0.7 * luma_of(pictures)[..., None] + 0.3 * pictures  # pale: little is clipped
    pictures[1] = 20 + pictures[1] / 4
    pictures[2] = 180 + pictures[2] / 6
    seen = look(pictures.astype(np.uint8), condition(image_px=px, magnification=1, **ARMS[name]))
    place = np.arange(px) - (px - 1) / 2
    distance = np.hypot(place[:, None], place[None])
    assert (seen[:, distance >= px / 2 - 0.5] == 128).all()
    mask = views.disc(px)
    assert ((mask == 0) == (distance >= px / 2 - 0.5)).all()
    assert (mask[distance < px / 2 - 0.5 - 3 * px / 64] == 1).all()
    luma = seen.astype(float) @ [0.299, 0.587, 0.114] - 127.5
    assert np.abs(luma.sum((1, 2)) / mask.sum()).max() < 1
    inside = mask > 0.05
    contrast = np.sqrt((luma**2 / np.where(inside, mask, 1))[:, inside].sum(1) / mask.sum())
    assert contrast == pytest.approx(0.2 * 255, rel=0.03)


def test_without_an_aperture_the_corners_are_seen():
    seen = look(smooth(4, 60), condition(image_px=32, magnification=1, aperture=False))
    assert seen[:, 0, 0].std() > 10
    assert (look(smooth(4, 60), condition(image_px=32, magnification=1))[:, 0, 0] == 128).all()


@pytest.mark.parametrize("aperture", [True, False])
@pytest.mark.parametrize("magnification", [0.3, 0.77, 1.0, 1.5, 2.15])
def test_the_smallest_allowed_picture_fills_the_view_however_it_is_turned(magnification, aperture):
    settings = {"magnification": magnification, "aperture": aperture}
    side = condition(**settings).side_min_px
    flat = np.full((20, side, side, 3), 90, np.uint8)
    for turn in ({}, {"rotation_deg": 45}, {"rotation_deg": 22.5}, {"isotropic": True}):
        # The mean grey is 127.5, which a rounding error moves either way.
        assert np.isin(look(flat, condition(**settings, **turn)), (127, 128)).all()
    with pytest.raises(ValueError, match=rf"side of {side - 1} px; allowed is at least {side}"):
        look(flat[:, 1:, 1:], condition(**settings))


def test_a_view_smaller_than_its_picture_is_smoothed_first():
    """Stripes too fine for the view vanish; they leave no coarse pattern."""
    ramp = ramps(3, 200)
    stripes = 24 * np.where(np.arange(200) % 3 == 0, 1, -0.5)
    directions = []
    for turn in (0, 45):
        settings = condition(image_px=32, magnification=0.25, rotation_deg=turn)
        plain = look(ramp, settings).astype(int)
        directions.append(np.array([direction_deg(one) for one in plain]))
        for across in (stripes[:, None, None], stripes[:, None]):
            striped = (ramp + across).astype(np.uint8)
            assert np.abs(look(striped, settings).astype(int) - plain).max() <= 4
    assert apart(directions[1] - directions[0], 45, 360).max() < 1


def luma_of(rgb):
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize(("colour", "centre_deg"), [("blue_poor", 240), ("yellow_poor", 60)])
def test_a_poor_arm_loses_the_chroma_of_its_hues_and_nothing_else(colour, centre_deg):
    picture = noise(1, 64)[0]
    picture[0] = grey(np.arange(64) * 4)  # grey has no hue to lose
    seen = views.tint(picture, condition(colour=colour))
    hue = 360 * np.array([colorsys.rgb_to_hsv(*rgb)[0] for rgb in picture.reshape(-1, 3) / 255.0])
    away = apart(hue.reshape(64, 64), centre_deg, 360)
    away[0] = 180
    near, far = away < 37, away > 43  # hue comes in 256 steps
    assert near.sum() > 300
    assert np.array_equal(seen[far], picture[far])
    luma = luma_of(picture)
    assert np.abs(luma_of(seen) - luma).max() <= 0.51
    before, after = (
        np.abs(one[near] - luma[near][:, None]) for one in (picture, seen.astype(float))
    )
    assert np.abs(after - before / 20).max() <= 1
    assert before.max() > 100


@pytest.mark.parametrize("turn", [0, 360, -360])
def test_a_whole_turn_of_hue_changes_nothing(turn):
    picture = noise(1, 64)[0]
    same = views.tint(picture, condition(colour="hue_rotated", hue_rotation_deg=turn))
    assert np.abs(same.astype(int) - picture).max() <= 1


@pytest.mark.parametrize("turn", [90, 120, -45])
def test_hues_turn_and_luma_and_chroma_stay(turn):
    picture = 100 + noise(1, 64)[0] // 6  # pale enough for every hue to exist at this luma
    seen = views.tint(picture, condition(colour="hue_rotated", hue_rotation_deg=turn)).astype(float)
    assert np.abs(luma_of(seen) - luma_of(picture)).max() < 1.0
    chroma = np.array([[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    one, other = (rgb @ chroma.T @ [1, 1j] for rgb in (picture.astype(float), seen))
    strong = np.abs(one) > 8
    assert strong.sum() > 300
    assert np.abs(np.abs(other) - np.abs(one))[strong].max() < 1
    assert apart(np.rad2deg(np.angle(other[strong] / one[strong])), turn, 360).max() < 8
    back = views.tint(
        seen.astype(np.uint8), condition(colour="hue_rotated", hue_rotation_deg=-turn)
    )
    assert np.abs(back.astype(int) - picture).max() <= 2


def test_grey_pictures_look_alike_to_every_colour_and_grey_arms_see_luma():
    pictures = smooth(3, 40)
    luma = grey(np.rint(luma_of(pictures)))
    expected = look(pictures, condition())
    assert (expected[..., 0] == expected[..., 2]).all()
    for colour in ("natural", "blue_poor", "yellow_poor", "grey"):
        assert np.array_equal(look(luma, condition(colour=colour)), expected)
    assert np.ptp(look(pictures, condition(colour="natural")).astype(int), axis=-1).max() > 30


def test_impossible_settings_are_named():
    with pytest.raises(ValueError, match="unknown key tilt_deg"):
        condition(tilt_deg=3)
    with pytest.raises(ValueError, match="magnification is missing"):
        views.parse_settings({"image_px": 32})
