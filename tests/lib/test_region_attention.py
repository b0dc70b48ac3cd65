"""Attention against known regions: heads wired by hand are found, uniform ones are not."""

import numpy as np
import pandas as pd
import pytest
import torch
import wired_attention as wired
from patchwork.analysis.selectivity import region_attention, region_tables
from patchwork.interventions import attention
from patchwork.statistics.power import Planted
from scipy import stats
from sklearn.metrics import roc_auc_score

RUN = {"dataset": "d", "backbone": "b", "protocol": "p", "seed": 0, "state": "tuned"}


@pytest.fixture(scope="module")
def maps() -> region_attention.Maps:
    return region_attention.attend(wired.vit(), wired.pictures(24)[0], chunk=5)


@pytest.fixture(scope="module")
def scored(maps) -> tuple[pd.DataFrame, pd.DataFrame]:
    regions = wired.pictures(24)[1]
    merged = {"drawn": ["mark", "frame"]}
    return region_attention.region_attention(maps, regions, wired.NAMES, merged)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_maps_are_the_patterns_without_the_prefix_and_follow_rollout(maps):
    model, (pixels, _) = wired.vit(), wired.pictures(24)
    eye, flow = np.eye(wired.GRID**2 + 1), np.eye(wired.GRID**2 + 1)
    for layer, pattern in enumerate(attention.patterns(model, pixels)):
        flow = (0.5 * eye + 0.5 * pattern.mean(1).numpy()) @ flow
        reached = flow[:, 0, 1:] / flow[:, 0, 1:].sum(-1, keepdims=True)
        assert np.allclose(maps.weights["rollout"][:, layer, 0], reached, atol=1e-6)
        cls = pattern[:, :, 0, 1:]
        assert np.allclose(maps.prefix["cls"][:, layer], pattern[:, :, 0, 0], atol=1e-6)
        cls = cls / cls.sum(-1, keepdim=True)
        assert np.allclose(maps.weights["cls"][:, layer], cls, atol=1e-6)
        received = pattern.mean(2)[..., 1:]
        received = received / received.sum(-1, keepdim=True)
        assert np.allclose(maps.weights["received"][:, layer], received, atol=1e-6)
    assert all(np.allclose(w.sum(-1), 1, atol=1e-5) for w in maps.weights.values())


def test_tokens_of_high_norm_are_found_and_scored_as_a_region(maps):
    model, (pixels, regions) = wired.vit(), wired.pictures(24)
    with torch.no_grad():
        model.pos_embed[:, 7] = 40  # token 7 is patch 6
    one = region_attention.attend(model, pixels)
    with torch.no_grad():
        stream = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
    for layer, block in enumerate(model.blocks):
        lengths = stream[:, 1:].norm(dim=-1)
        expected = lengths > 4 * lengths.median(dim=1, keepdim=True).values
        assert np.array_equal(one.high_norm[:, layer], expected.numpy())
        with torch.no_grad():
            stream = block(stream)
    assert one.high_norm[:, 0, 6].all()
    assert not maps.high_norm.any()
    table = region_attention.region_attention(one, regions, wired.NAMES)[1]
    apart = table[(table["region"] == region_attention.HIGH_NORM) & (table["layer"] == 0)]
    assert np.allclose(apart["area"], 1 / wired.GRID**2)
    assert np.allclose(apart["mass_high_norm"], apart["mass"])
    ground = table[(table["region"] == "ground") & (table["layer"] == 0)].set_index(
        ["variant", "head"]
    )
    inside = apart.set_index(["variant", "head"])
    assert np.allclose(ground["mass_high_norm"], inside["mass"].loc[ground.index])


def test_shares_count_pixels_and_join():
    regions = generator().integers(0, 3, (4, 16, 24, 1)).astype(np.uint8)
    shares = region_attention.shares_of(regions, ("a", "b", "c"), 6, {"bc": ["b", "c"]})
    assert shares.values.shape == (4, 4, 2, 3)
    assert shares.values[2, 1, 1, 2] == (regions[2, 8:, 16:] == 1).mean()
    assert np.allclose(shares.values[:, 3], shares.values[:, 1] + shares.values[:, 2])
    assert np.allclose(shares.values[:, :3].sum(1), 1)
    for names, n_patches, merged, match in [
        (("a", "b"), 6, {}, "hold 2"),
        (("a", "b", "c"), 7, {}, "7 square patches"),
        (("a", "b", "c"), 6, {"x": ["y"]}, "'y'"),
    ]:
        with pytest.raises(ValueError, match=match):
            region_attention.shares_of(regions, names, n_patches, merged)


def test_patches_of_a_thin_region_belong_to_it():
    values = np.zeros((1, 4, 1, 4))
    values[0, 0] = [0.5, 0.06, 0.04, 0]
    values[0, 1] = [0.03, 0.02, 0.01, 0]
    values[0, 2] = [1, 1, 1, 1]
    found = region_attention.Shares(("wide", "thin", "all", "none"), values).members()[0]
    assert found[0].tolist() == [True, True, False, False]
    assert found[1].tolist() == [True, True, False, False]
    assert found[2].all()
    assert not found[3].any()


def test_scores_equal_loops(maps, scored):
    images, _ = scored
    regions = wired.pictures(24)[1]
    rows = images.sample(60, random_state=1).query("region != 'drawn' and variant != 'rollout'")
    for row in rows.itertuples():
        weights = maps.weights[row.variant][row.example, row.layer, row.head].astype(float)
        member = regions[row.example, ..., 0] == wired.NAMES.index(row.region)
        p = wired.PATCH
        mass, belongs = 0.0, []
        for i, weight in enumerate(weights):
            y, x = divmod(i, wired.GRID)
            share = member[y * p : (y + 1) * p, x * p : (x + 1) * p].mean()
            mass += weight * share
            belongs.append(share >= region_attention.BELONGS)
        assert row.mass == pytest.approx(mass, rel=1e-5)
        assert row.area == pytest.approx(member.mean(), rel=1e-5)
        assert row.auroc == pytest.approx(roc_auc_score(belongs, weights), rel=1e-5)
        top = weights == weights.max()
        assert row.hit == pytest.approx(np.mean(np.array(belongs)[top]))


def test_wired_heads_are_what_they_were_wired_to_be(scored):
    _, table = scored
    tests = region_tables.selectivity_tests(table.assign(**RUN), ["ground", "mark", "frame"])
    heads = region_tables.head_selectivity(tests)
    shown = heads[(heads["layer"] == 0) & (heads["variant"] == "cls")].set_index("head")
    first = shown[shown["state"] == "tuned"]
    assert set(shown.loc[shown["state"] == "permuted", "kind"]) == {"neither"}
    assert first["kind"].tolist() == ["monosemantic", "neither", "polysemantic"]
    assert first.loc[0, "region"] == "mark"
    assert first["regions"].tolist() == [1, 0, 2]
    mass = table.query("layer == 0 and variant == 'cls'").set_index(["head", "region"])
    assert mass.loc[(0, "mark"), "mass"] > 0.9
    assert mass.loc[(0, "mark"), "auroc"] == 1
    assert mass.loc[(0, "mark"), "hit"] == 1
    assert mass.loc[(0, "mark"), "null"] == region_attention.OTHER_IMAGE
    assert mass.loc[(0, "frame"), "null"] == region_attention.SHIFTED
    assert mass.loc[(1, "mark"), "ratio"] == pytest.approx(1, abs=1e-5)
    assert mass.loc[(1, "mark"), "auroc"] == 0.5
    assert mass.loc[(1, ["ground", "mark", "frame"]), "p"].tolist() == [1, 1, 1]


def test_without_the_mark_in_the_wiring_the_head_is_not_selective():
    model, (pixels, regions) = wired.vit(), wired.pictures(24)
    with torch.no_grad():
        model.blocks[0].attn.qkv.bias.zero_()
    maps = region_attention.attend(model, pixels)
    table = region_attention.region_attention(maps, regions, wired.NAMES)[1]
    tests = region_tables.selectivity_tests(table.assign(**RUN), ["ground", "mark", "frame"])
    heads = region_tables.head_selectivity(tests)
    assert set(heads.query("layer == 0 and variant == 'cls'")["kind"]) == {"neither"}


def test_the_place_that_a_head_always_attends_to_is_no_mark(maps):
    """A mark stays in one half; attention fixed on that half has mass, and no p."""
    regions = region_attention.shares_of(wired.pictures(24)[1], wired.NAMES, wired.GRID**2, {})
    fixed = regions.values[:, 1].mean(0).reshape(-1)
    weights = np.tile(fixed / fixed.sum(), (24, 1, 1))
    table = region_attention.null_tests(weights, regions, 0).set_index("region")
    assert table.loc["mark", "ratio"] > 3
    assert table.loc["mark", "ratio_null"] == pytest.approx(table.loc["mark", "ratio"])
    assert table.loc["mark", "p"] == 1


def test_shifts_equal_rolled_masks():
    rng = generator(3)
    weights = rng.dirichlet(np.ones(12), (5, 2))
    values = rng.random((1, 1, 3, 4)).repeat(5, 0)
    shares = region_attention.Shares(("still",), values)
    got = region_attention.null_tests(weights, shares, 0)
    scores = []
    for flip in ((), (0,), (1,), (0, 1)):
        mask = np.flip(values[0, 0], flip)
        for y in range(3):
            for x in range(4):
                rolled = np.roll(mask, (y, x), (0, 1)).reshape(-1)
                scores.append((weights @ rolled).sum(0))
    scores = np.array(scores)
    assert got["p"].to_numpy() == pytest.approx((scores >= scores[0] - 1e-9).mean(0))
    assert got["ratio"].to_numpy() == pytest.approx(scores[0] / values[0].mean() / 5)
    assert got["ratio_null"].to_numpy() == pytest.approx([1, 1])


def binomial(count: int, n: int, level: float) -> bool:
    low, high = stats.binom.interval(0.999, n, level)
    return low <= count <= high


@pytest.mark.parametrize("still", [False, True])
def test_random_maps_pass_at_the_nominal_rate(still):
    rng, level, p, drawn = generator(5), 0.05, [], []
    for _ in range(60):
        if still:
            values = np.zeros((6, 1, 6, 6))
            values[:, 0, 1:3, 1:5] = 1
            # One map in all images, as a head of fixed attention has.
            weights = rng.dirichlet(np.full(36, 0.3), (1, 10)).repeat(6, 0)
        else:
            values = np.zeros((12, 1, 6, 6))
            for i, (y, x) in enumerate(rng.integers(0, 5, (12, 2))):
                values[i, 0, y : y + 2, x : x + 2] = 1
            weights = rng.dirichlet(np.full(36, 0.3), (12, 10))
        table = region_attention.null_tests(weights, region_attention.Shares(("r",), values), 0)
        assert set(table["null"]) == {"shifted" if still else "other_image"}
        p += table["p"].tolist()
        drawn += table["p_drawn"].tolist()
    assert binomial(int(np.sum(np.array(p) <= level)), len(p), level)
    most = stats.binom.ppf(0.999, len(drawn), level)
    assert 0 < np.sum(np.array(drawn) <= level) <= most


def head_table(passing: dict[int, list[tuple[int, str]]], depth: int = 6, heads: int = 2):
    """Seed to the (layer, region) whose head 0 passes; head 1 never does."""
    rows = []
    for seed, found in passing.items():
        for layer in range(depth):
            for head in range(heads):
                for region in ("chirp", "text", "plain"):
                    passes = head == 0 and (layer, region) in found
                    rows.append(
                        RUN
                        | {"seed": seed, "variant": "cls", "layer": layer, "head": head}
                        | {"region": region, "p": 1e-6 if passes else 0.9, "n": 10}
                        | {"ratio": 3.0 if passes else 1.0, "ratio_null": 1.0}
                        | {"auroc": 0.9 if passes else 0.5, "null": "shifted"}
                        | dict.fromkeys(["mass", "area", "hit", "mass_high_norm"], 0.1)
                        | {"prefix_share": 0.2, "state": "tuned"}
                        | {"ratio_drawn": 1.0, "p_drawn": 0.5, "null_auroc": 0.5}
                    )
    return pd.DataFrame(rows)


def test_shares_and_findings_count_heads_by_depth():
    passing = {
        0: [(0, "text"), (3, "chirp"), (4, "chirp"), (5, "chirp")],
        1: [(0, "text"), (1, "chirp"), (1, "text"), (3, "chirp")],
        2: [(0, "text"), (3, "chirp")],
    }
    tests = region_tables.selectivity_tests(head_table(passing), ["chirp", "text", "plain"])
    heads = region_tables.head_selectivity(tests)
    assert (heads["kind"] == "polysemantic").sum() == 1
    assert set(heads.query("kind != 'neither'")["state"]) == {"tuned"}
    before = heads[heads["state"] == "tuned"].assign(state="untouched", kind="neither", region="")
    region_sets = {"chirp": ["chirp"], "clutter": ["text"]}
    both = pd.concat([heads, before])
    planted = {"share_monosemantic_chirp_late": Planted(0.9, (0.2, 1))}
    found = region_tables.share_findings(both, region_sets, planted).set_index("quantity")
    assert found.loc["share_monosemantic_chirp_late", "estimate"] == pytest.approx(
        np.mean([3 / 6, 1 / 6, 1 / 6])
    )
    assert found.loc["share_monosemantic_clutter_early", "estimate"] == pytest.approx(1 / 4)
    assert found.loc["share_polysemantic_early", "estimate"] == pytest.approx(1 / 4 / 3)
    assert found.loc["share_monosemantic_chirp_late_untouched", "estimate"] == 0
    one = found.loc["share_monosemantic_chirp_late"]
    assert (one["n"], one["seeds"]) == (6, 3)
    by_chance = found.loc["share_monosemantic_any_all_permuted"]
    assert by_chance["estimate"] == 0 < by_chance["ci90_high"] < 0.2
    assert found.loc["share_monosemantic_chirp_late_found", "estimate"] > 0.8
    heads = heads[heads["state"] == "tuned"]
    shares = region_tables.share_table(heads).set_index(["layer", "kind", "region"])
    assert shares.loc[(3, "monosemantic", "chirp"), "estimate"] == 0.5
    assert shares.loc[(1, "polysemantic", ""), "estimate"] == pytest.approx(1 / 6)
    one = shares.loc[(4, "monosemantic", "any")]
    assert 0 <= one["ci_low"] <= one["estimate"] <= one["ci_high"] <= 1
    kinds = shares.reset_index().query("region in ['', 'any']")
    assert np.allclose(kinds.groupby("layer")["estimate"].sum(), 1)


def test_the_rate_of_false_discoveries_is_over_the_whole_network():
    """One p of 0.03 among 36 tests is nothing; a small excess with a certain p is nothing."""
    frame = head_table({0: [(3, "chirp")]})
    place = (frame["layer"] == 1) & (frame["head"] == 0) & (frame["region"] == "text")
    frame.loc[place, ["p", "ratio", "auroc"]] = [0.03, 3.0, 0.9]
    small = (frame["layer"] == 2) & (frame["head"] == 0) & (frame["region"] == "text")
    frame.loc[small, ["p", "ratio", "auroc"]] = [1e-6, 1.1, 0.55]
    ranks = (frame["layer"] == 2) & (frame["head"] == 1) & (frame["region"] == "text")
    frame.loc[ranks, ["p", "ratio", "auroc"]] = [1e-6, 1.1, 0.95]
    tests = region_tables.selectivity_tests(frame, ["chirp", "text", "plain"])
    assert tests["passes"].sum() == 1
    assert tests.loc[tests["passes"], "layer"].tolist() == [3]
    with pytest.raises(ValueError, match="'sky'"):
        region_tables.selectivity_tests(frame, ["sky"])


def test_masks_elsewhere_that_pass_are_counted_as_chance():
    frame = head_table({0: [(3, "chirp")]})
    frame.loc[frame["head"] == 1, ["p_drawn", "ratio_drawn", "null_auroc"]] = [1e-6, 3.0, 0.9]
    tests = region_tables.selectivity_tests(frame, ["chirp", "text"])
    heads = region_tables.head_selectivity(tests)
    permuted = heads[heads["state"] == "permuted"]
    assert set(permuted.query("kind != 'neither'")["head"]) == {1}
    assert len(permuted) == 12


def test_regions_over_seeds_have_intervals_and_p():
    frame = head_table({seed: [(3, "chirp")] for seed in range(4)})
    rng = generator()
    frame["ratio"] += 0.1 * rng.standard_normal(len(frame))
    tests = region_tables.selectivity_tests(frame, ["chirp", "text"])
    table = region_tables.region_table(tests)
    assert len(table) == 6 * 2 * 2
    cell = table.set_index(["layer", "head", "region"]).loc[(3, 0, "chirp")]
    assert cell["ci_low"] < cell["ratio"] < cell["ci_high"]
    assert cell["ratio"] == pytest.approx(
        frame.query("layer == 3 and head == 0 and region == 'chirp'")["ratio"].mean()
    )
    assert cell["q"] < 0.05
    assert cell["passes"] == 1
    alone = region_tables.region_table(tests[tests["seed"] == 0])
    assert alone[["ci_low", "p", "q"]].isna().all(axis=None)
