"""Sections of gpu_check.py: each yields rows of measure, value, beside and ratio.

The library is imported inside of them, so that a package that is missing fails its sections only.
"""

import copy
import gc
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import cached_property
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED_RATE = 145  # images/s of one evaluation pass in arXiv 2504.09393's published code
TOLERANCE = 1e-5  # of effects in fp32, CPU against GPU
Rows = Iterator[dict]


class Setup:
    """Device, shapes, and what sections hand on to later ones."""

    def __init__(self, device: str, tiny: bool) -> None:
        self.device, self.tiny = torch.device(device), tiny
        self.rates: dict[str, float] = {}
        self.best_batch = 16 if tiny else 256
        self.pixels = 32 if tiny else 224
        small = {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2}
        self.base = {"name": "vit_base_patch16_224", "options": small if tiny else {}}
        self.workers = 2 if tiny else min(8, max(1, (os.cpu_count() or 2) - 2))

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def machine(self) -> dict:
        name = torch.cuda.get_device_name() if self.on_gpu else "CPU"
        memory = torch.cuda.get_device_properties(0).total_memory if self.on_gpu else 0
        shared = Path("/dev/shm")
        room = shutil.disk_usage(shared).free if shared.is_dir() else 0
        return {"device": name, "memory_gb": round(memory / 1e9, 1), "cores": os.cpu_count(),
                "shared_memory_gb": round(room / 1e9, 1), "torch": torch.__version__,
                "cuda": torch.version.cuda}  # fmt: skip

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def clear(self) -> None:
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gb(self) -> str:
        """Memory that tensors took at most since the last `clear`, in words."""
        return f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if self.on_gpu else ""

    def seconds(self, run: Callable[[], object], repeats: int = 3) -> float:
        """Median time of a call, after one that is not counted."""
        times = []
        for _ in range(1 + (1 if self.tiny else repeats)):
            self.wait()
            started = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - started)
        return statistics.median(times[1:])

    def once(self, run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
        """Time and result of one call, for what takes long and has run in smaller pieces before."""
        self.wait()
        started = time.perf_counter()
        result = run()
        self.wait()
        return time.perf_counter() - started, result

    def share(self, flops_per_s: float, precision: str) -> float | None:
        """Of the measured matrix rate in a precision."""
        rate = self.rates.get(precision)
        return flops_per_s / rate if rate else None

    @cached_property
    def network(self):
        """ViT-B/16 with LoRA on queries, keys and values, and the published heads, on the CPU."""
        return _network(self.base, self.pixels, 0.1, seed=0)


def row(measure: str, value: object, beside: object = None, ratio: object = None) -> dict:
    return {"measure": measure, "value": value, "beside": beside, "ratio": ratio}


def flops_of(run: Callable[[], object]) -> int:
    """Floating-point operations that torch counts in matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


TARGETS = {
    "angle": {"labels": ["angle_deg"], "encoding": "turn", "activation": "tanh", "loss": "huber",
              "delta": 0.1, "weight": 2},
    "start": {"labels": ["start_x_px", "start_y_px"], "encoding": "scaled", "scale": "image_px",
              "activation": "sigmoid", "loss": "huber", "delta": 0.1},
    "end": {"labels": ["end_x_px", "end_y_px"], "encoding": "scaled", "scale": "image_px",
            "activation": "sigmoid", "loss": "huber", "delta": 0.1},
    "noise": {"labels": ["noise_sd"], "encoding": "scaled", "scale": 0.3, "activation": "sigmoid",
              "loss": "huber", "delta": 0.1, "weight": 0.5},
}  # fmt: skip
LINES = {
    "length_px": {"min": 14, "max": 14}, "width_px": {"min": 2, "max": 2}, "palette": "white",
    "margin": "length", "noise_levels": [0.0, 0.1, 0.2, 0.3], "rasteriser": "pil",
}  # fmt: skip


def _network(architecture: dict, pixels: int, dropout: float, seed: int):
    from patchwork.models import backbones, fine_tuned, tasks

    backbone = backbones.prepare(
        {"source": "random", "architecture": architecture, "position_scale": None},
        pixels, seed=seed,
    )  # fmt: skip
    targets = {name: tasks.read_target(block, pixels) for name, block in TARGETS.items()}
    adapter = {"kind": "lora", "rank": 8, "alpha": 16, "dropout": dropout, "modules": ["qkv"]}
    settings = {"readout": "cls", "head_hidden": [256], "adapter": adapter}
    return fine_tuned.build(backbone, targets, settings, seed=seed)


class InMemory:
    """Images and labels without any reading."""

    def __init__(self, images: torch.Tensor, labels: dict | None = None) -> None:
        self.images = images
        rng = np.random.default_rng(0)
        names = [name for block in TARGETS.values() for name in block["labels"]]
        drawn = {name: rng.uniform(0, 0.3, len(images)) for name in names}
        self.labels = labels or drawn

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, order: np.ndarray, batch_size: int):
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            labels = {name: column[rows] for name, column in self.labels.items()}
            yield self.images[torch.from_numpy(rows)], labels


def noise_images(n: int, pixels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n, pixels, pixels, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


class Clocked:
    """A source gone round as often as `n` examples need, that notes when each batch is drawn."""

    def __init__(self, source, n: int) -> None:
        self.source, self.n, self.labels = source, n, source.labels
        self.ticks: list[float] = []

    def __len__(self) -> int:
        return self.n

    def batches(self, order: np.ndarray, batch_size: int):
        return self._noted(self.source.batches(order % len(self.source), batch_size))

    def _noted(self, drawn):
        for batch in drawn:
            self.ticks.append(time.perf_counter())
            yield batch

    def rate(self, batch_size: int) -> float:
        """Images/s in the later three quarters: the first steps load kernels."""
        ticks = self.ticks[len(self.ticks) // 4 :]
        return batch_size * (len(ticks) - 1) / (ticks[-1] - ticks[0])


def fit(network, source, batch_size: int, steps: int, precision: str = "bf16") -> Clocked:
    """The project's own training loop over so many steps."""
    from accelerate.state import AcceleratorState
    from patchwork.training import trainer

    # One process has one precision; this one tries several.
    AcceleratorState._reset_state(reset_partial_state=True)
    settings = {
        "epochs": 1, "batch_size": batch_size, "learning_rate": 1e-4, "weight_decay": 1e-5,
        "schedule": {"kind": "constant", "warmup_steps": 0}, "early_stopping_patience": None,
        "gradient_clip": None, "mixed_precision": precision, "checkpoint_every_s": 1e9,
    }  # fmt: skip
    data = Clocked(source, batch_size * steps)
    few = InMemory(noise_images(32, source.images.shape[1] if hasattr(source, "images") else
                                source.image_px))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer.fit(network, data, few, settings, seed=0, folder=Path(folder))
    return data


def facts(setup: Setup, deadline: float) -> Rows:
    """Matrix rates, against which shares are taken."""
    size = 512 if setup.tiny else 8192
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False), ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
    ):  # fmt: skip
        a, b = (torch.randn(size, size, device=setup.device, dtype=dtype) for _ in range(2))
        with _tf32(tf32):
            best = min(setup.seconds(lambda a=a, b=b: a @ b, 1) for _ in range(5))
        setup.rates[name] = 2 * size**3 / best
        yield row(f"matrix rate {name}, {size} cubed", setup.rates[name] / 1e12, "TFLOP/s")


def _tf32(on: bool) -> ExitStack:
    stack = ExitStack()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    stack.callback(torch.set_float32_matmul_precision, before)
    return stack


def tests(setup: Setup, deadline: float) -> Rows:
    """Tests marked gpu, in a process of their own."""
    files = [str(p) for p in sorted((ROOT / "tests" / "lib").glob("test_*.py"))
             if "pytest.mark.gpu" in p.read_text()]  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-n",
               "0", *files]  # fmt: skip
    paths = [str(ROOT / "workflow" / "lib"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=max(10.0, deadline - time.monotonic()),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )  # fmt: skip
    lines = done.stdout.splitlines() or done.stderr.splitlines()[-1:] or ["no output"]
    yield row("pytest -m gpu", lines[-1].strip("= "), f"exit {done.returncode}")
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            yield row("failed", line[:240])
    if done.returncode not in (0, 5):
        raise RuntimeError(f"pytest ended with {done.returncode}")


def training(setup: Setup, deadline: float) -> Rows:
    """LoRA training in bf16 through the project's loop, from memory."""
    source = InMemory(noise_images(64 if setup.tiny else 1024, setup.pixels))
    flops = _training_flops(setup)
    yield row("operations of a step, per image", flops / 1e9, "GFLOP, counted by torch")

    def rate(batch: int, precision: str = "bf16", change=lambda network: None) -> float:
        setup.clear()
        network = copy.deepcopy(setup.network).to(setup.device)
        change(network)
        steps = 8 if setup.tiny else max(16, min(48, 8192 // batch))
        return fit(network, source, batch, steps, precision).rate(batch)

    found = {}
    for batch in (8, 16) if setup.tiny else (32, 64, 128, 256, 512):
        try:
            found[batch] = rate(batch)
        except torch.cuda.OutOfMemoryError:
            yield row(f"bf16, batch {batch}", None, "does not fit")
            break
        shown = "images/s" + (" (published batch)" if batch == 32 else "")
        yield row(f"bf16, batch {batch}", found[batch], f"{shown}, {setup.peak_gb()}",
                  setup.share(found[batch] * flops, "bf16"))  # fmt: skip
    setup.best_batch = best = max(found, key=found.__getitem__)
    for batch in sorted({min(found), best}):
        base = statistics.median([found[batch], rate(batch), rate(batch)])
        yield row(f"batch {batch} again", base, "median of 3, ratios below are to this")
        for name, run in _variants(rate, batch).items():
            if time.monotonic() > deadline:
                yield row(f"batch {batch}, {name}", None, "no time left")
                continue
            try:
                value = run()
            except Exception as error:
                yield row(f"batch {batch}, {name}", None, f"{type(error).__name__}: {error}"[:200])
                continue
            yield row(f"batch {batch}, {name}", value, "images/s", value / base)


def _training_flops(setup: Setup) -> float:
    from patchwork.training.precision import autocast

    network = copy.deepcopy(setup.network).to(setup.device).train()
    images = noise_images(4, setup.pixels).to(setup.device)

    def step() -> None:
        with autocast(setup.device, "bf16"):
            sum(output.sum() for output in network(images).values()).backward()

    return flops_of(step) / len(images)


def _variants(rate: Callable, batch: int) -> dict[str, Callable[[], float]]:
    """What is changed in the loop, each alone; the loop as it is has ratio 1."""
    from patchwork.training import trainer

    plain = torch.optim.AdamW

    def copied_at_once(batches, encode, device):
        for inputs, labels in batches:
            yield inputs.to(device), {k: v.to(device) for k, v in encode(labels).items()}

    def patched(target, name: str, new) -> float:
        with mock.patch.object(target, name, new):
            return rate(batch)

    def compiled(network) -> None:
        for block in network.encoder.blocks:
            block.compile()

    def with_tf32() -> float:
        with _tf32(True):
            return rate(batch, "no")

    return {
        "without pinned prefetch": lambda: patched(trainer.feeding, "on_device", copied_at_once),
        "without fused AdamW": lambda: patched(
            torch.optim, "AdamW", lambda *a, **k: plain(*a, **{**k, "fused": False})
        ),
        "sums in any order (resumes not bit-equal)": lambda: patched(
            trainer, "repeatable", lambda device: nullcontext()
        ),
        "channels-last": lambda: rate(
            batch, change=lambda network: network.to(memory_format=torch.channels_last)
        ),
        "torch.compile of the blocks": lambda: rate(batch, change=compiled),
        "tf32": with_tf32,
        "fp32": lambda: rate(batch, "no"),
    }


def loader(setup: Setup, deadline: float) -> Rows:
    """The same training from an HDF5 file beside the same images in memory."""
    from patchwork import stimuli
    from patchwork.data import sources, store

    n = 48 if setup.tiny else 1024
    settings = {"image_px": setup.pixels, **LINES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.h5"
        store.write(
            path, stimuli.stream("lines", settings, seed=1, indices=range(n)), n=n,
            attributes={"seed": 1, "settings": settings, "first_index": 0, "code": "benchmark"},
            label_attributes=stimuli.LABELS["lines"](settings),
        )  # fmt: skip
        kept = store.read(path)
        memory = InMemory(torch.from_numpy(kept.images), dict(kept.labels))
        with store.Reader(path) as reader:
            seconds = setup.seconds(lambda: [0 for _ in reader.batches(range(n), 32)], 1)
        yield row("reading alone, one thread", n / seconds, "images/s")
        for batch, steps in ((8, 8), (16, 8)) if setup.tiny else ((32, 96), (256, 48)):
            rates: dict[str, list[float]] = {}
            shared = sources.Stored(path, setup.workers)
            kinds = {"memory": memory, f"{shared.readers(batch)} processes": shared,
                     "a thread": sources.Stored(path)}  # fmt: skip
            for turn in range(2):
                for kind, source in kinds.items():
                    if kind == "a thread" and turn:
                        continue
                    network = copy.deepcopy(setup.network).to(setup.device)
                    clocked = fit(network, source, batch, steps)
                    rates.setdefault(kind, []).append(clocked.rate(batch))
            base = max(rates["memory"])
            for kind, values in rates.items():
                yield row(f"batch {batch}, read by {kind}" if kind != "memory" else
                          f"batch {batch}, from memory", max(values), "images/s; wanted >= 0.97",
                          max(values) / base)  # fmt: skip


def evaluation(setup: Setup, deadline: float) -> Rows:
    """Passes over test images, against the published rate; predictions of CPU and GPU."""
    from patchwork.models import fine_tuned
    from patchwork.training.evaluation import time_passes
    from patchwork.training.precision import autocast

    network = fine_tuned.merge(copy.deepcopy(setup.network))
    images = noise_images(4, setup.pixels)
    on_cpu = fine_tuned.predict(network, images)
    network = network.to(setup.device)
    n = 64 if setup.tiny else 2048
    source = InMemory(noise_images(n, setup.pixels))
    flops = flops_of(lambda: fine_tuned.predict(network, images)) / len(images)
    for name in ("fp32", "tf32", "bf16"):
        setup.clear()
        half = autocast(setup.device, "bf16") if name == "bf16" else nullcontext()
        with _tf32(name == "tf32"), half:
            off = _deviation(on_cpu, fine_tuned.predict(network, images))
            passes = time_passes(network, source, n_images=n, repetitions=3, batch_size=256)
        rate = float((passes["n_images"] / passes["seconds"]).median())
        beside = f"images/s; {PUBLISHED_RATE} published; {setup.peak_gb()}"
        yield row(f"{name}, batch 256", rate, beside, rate / PUBLISHED_RATE)
        yield row(f"{name}, share of matrix rate", None, None, setup.share(rate * flops, name))
        yield row(f"{name}, largest deviation from CPU fp32", off, "of outputs in -1..1")


def _deviation(one: dict, other: dict) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def _vit(setup: Setup, name: str):
    import timm

    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2} if setup.tiny else {}
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=10, **options).eval()


def _first_logits(output, rows):
    return output[:, 0] - output[:, 1]


@torch.no_grad()
def naive_heads(model, images, means=None) -> np.ndarray:
    """One forward pass for each head, its output zeroed or set to a mean by a hook."""
    clean, effects = _first_logits(model(images), None), []
    for index, block in enumerate(model.blocks):
        width = block.attn.head_dim
        for head in range(block.attn.num_heads):
            part = slice(head * width, (head + 1) * width)

            def hook(module, args, part=part, index=index):
                z = args[0].clone()
                z[:, :, part] = 0 if means is None else means[index][:, :, part]
                return (z,)

            handle = block.attn.proj.register_forward_pre_hook(hook)
            effects.append(_first_logits(model(images), None) - clean)
            handle.remove()
    stacked = torch.stack(effects).float().cpu().numpy()
    return stacked.reshape(len(model.blocks), -1, len(images))


def heads(setup: Setup, deadline: float) -> Rows:
    """Every head of a ViT ablated: this sweep, naive hooks, CPU and GPU, fp32 and bf16."""
    from patchwork import interventions

    sweep = interventions.head_ablation_sweep
    for name, n in (("vit_base_patch16_224", 32), ("vit_small_patch16_224", 64)):
        n, size = (4 if setup.tiny else n), name.split("_")[1]
        model = _vit(setup, name)
        images = torch.randn(n, 3, setup.pixels, setup.pixels)
        both = ("zero", "mean")
        on_cpu = sweep(model, images[:2], _first_logits, baselines=both).values
        model, images = model.to(setup.device), images.to(setup.device)
        on_gpu = sweep(model, images[:2], _first_logits, baselines=both)
        off = float(np.abs(on_cpu - on_gpu.values).max())
        yield row(f"{size}: CPU against GPU, fp32", off,
                  f"largest effect {np.abs(on_cpu).max():.3g}; {on_gpu.metadata['path']} path",
                  f"{'within' if off <= TOLERANCE else 'beyond'} {TOLERANCE:g}")  # fmt: skip
        yield from _head_rates(setup, model, images, size, sweep)
        if time.monotonic() > deadline:
            return


def _head_rates(setup: Setup, model, images, size: str, sweep) -> Rows:
    exact: np.ndarray | None = None
    for precision in ("fp32", "tf32", "bf16"):
        if precision == "bf16":
            model, images = model.bfloat16(), images.bfloat16()
        with _tf32(precision == "tf32"):
            found = yield from _zeroed(setup, model, images, f"{size} {precision}", sweep)
            if precision == "fp32":
                exact = found
                yield from _with_means(setup, model, images, f"{size} fp32", sweep)
        if exact is not None and precision != "fp32":
            yield row(f"{size} {precision} against fp32, zero", float(np.abs(found - exact).max()),
                      f"largest effect {np.abs(exact).max():.3g}")  # fmt: skip


def _zeroed(setup: Setup, model, images, name: str, sweep):
    """Zero ablation, ours and naive; gives our effects."""
    n, precision = len(images), name.split()[1]
    setup.clear()
    run = lambda: sweep(model, images, _first_logits, baselines=("zero",))  # noqa: E731
    ours = run()
    seconds, peak = setup.seconds(run, 2), setup.peak_gb()
    share = setup.share(flops_of(run) / seconds, precision) or math.nan
    naive_s, others = setup.once(lambda: naive_heads(model, images))
    yield row(f"{name}, zero: {ours.metadata['path']} path", n / seconds,
              f"images/s swept; {peak}; share of {precision} rate {share:.3f}")  # fmt: skip
    yield row(f"{name}, zero: naive hooks", n / naive_s,
              f"images/s swept; deviation {np.abs(ours.values[0] - others).max():.1e}",
              naive_s / seconds)  # fmt: skip
    return ours.values[0]


def _with_means(setup: Setup, model, images, name: str, sweep) -> Rows:
    from patchwork import interventions

    n, both = len(images), ("zero", "mean")
    sites = [f"{layer}.head_out" for layer in range(len(model.blocks))]
    means = list(interventions.mean_activations(model, sites, images).values())
    setup.clear()
    run = lambda: sweep(model, images, _first_logits, baselines=both)  # noqa: E731
    ours = run()
    seconds, peak = setup.seconds(run, 1), setup.peak_gb()
    naive_s, others = setup.once(
        lambda: np.stack([naive_heads(model, images), naive_heads(model, images, means)])
    )
    yield row(f"{name}, zero and mean: {ours.metadata['path']} path", n / seconds,
              f"images/s swept; {peak}")  # fmt: skip
    yield row(f"{name}, zero and mean: naive hooks", n / naive_s,
              f"images/s swept; deviation {np.abs(ours.values - others).max():.1e}",
              naive_s / seconds)  # fmt: skip


def patching(setup: Setup, deadline: float) -> Rows:
    """GPT-2 small patched at every layer, position and component; attribution beside it."""
    for pairs in (2, 8):
        yield from _patched(setup, pairs, 4 if setup.tiny else 16)
        if time.monotonic() > deadline:
            return


def _patched(setup: Setup, pairs: int, tokens: int) -> Rows:
    import gpt2_patching
    from patchwork import interventions

    def stack(effects) -> np.ndarray:
        return np.stack([effects.values[name] for name in gpt2_patching.COMPONENTS])

    model, clean, corrupted, metric = gpt2_patching.make(pairs, tokens, 0)
    if setup.tiny:
        del model.transformer.h[2:]
        model.config.n_layer = 2
    on_cpu = (
        stack(interventions.patch_sweep(model, clean, corrupted, metric)) if pairs == 2 else None
    )
    model = model.to(setup.device)
    data = (clean.to(setup.device), corrupted.to(setup.device), metric)

    def exact():
        return interventions.patch_sweep(model, *data)

    def estimate(precision: str, method: str):
        return interventions.attribution_sweep(
            model, *data, mixed_precision=precision, method=method
        )

    setup.clear()
    found = exact()
    ours = stack(found)
    if on_cpu is not None:
        yield _agreement("CPU against GPU, fp32", on_cpu, ours, found.metadata["path"])
    seconds = setup.seconds(exact)
    shape = f"{pairs} pairs of {tokens} tokens"
    share = setup.share(flops_of(exact) / seconds, "fp32") or math.nan
    beside = f"ms; {setup.peak_gb()}; share of fp32 rate {share:.3f}"
    yield row(f"{shape}, this sweep", seconds * 1e3, beside)
    naive_s, naive = setup.once(lambda: gpt2_patching.naive(model, *data))
    beside = f"ms; deviation {np.abs(naive - ours).max():.1e}; ratio to this sweep"
    yield row(f"{shape}, naive hooks", naive_s * 1e3, beside, naive_s / seconds)
    for name, precision, method in (
        ("fp32", "no", "gradient"), ("bf16", "bf16", "gradient"), ("relp, fp32", "no", "relp"),
    ):  # fmt: skip
        run = lambda how=(precision, method): estimate(*how)  # noqa: E731
        close, quick = interventions.correlation(stack(run()), ours), setup.seconds(run)
        beside = f"ms; Pearson r {close:.4f}; times as fast as this sweep"
        yield row(f"{shape}, attribution, {name}", quick * 1e3, beside, seconds / quick)


def _agreement(measure: str, on_cpu: np.ndarray, on_gpu: np.ndarray, path: str) -> dict:
    off = float(np.abs(on_cpu - on_gpu).max())
    beside = f"largest effect {np.abs(on_cpu).max():.3g}; {path} path"
    return row(measure, off, beside, f"{'within' if off <= TOLERANCE else 'beyond'} {TOLERANCE:g}")


SMALL = {
    "name": "vit_tiny_patch16_224",
    "options": {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4},
}
N_NETWORKS = 10


def together(setup: Setup, deadline: float) -> Rows:
    """Ten small networks of one condition: one after the other, as one, and in processes."""
    batch, count = 32, 2 if setup.tiny else N_NETWORKS
    source = InMemory(noise_images(256, 64))
    steps = 8 if setup.tiny else 200
    setup.clear()
    network = _network(SMALL, 64, 0.0, 0).to(setup.device)
    looped = fit(network, source, batch, steps).rate(batch)
    yield row("one network, the project's loop", looped, f"images/s, batch 32; {setup.peak_gb()}")
    yield from _as_one(setup, count, batch)
    if time.monotonic() > deadline - 20 and not setup.tiny:
        yield row(f"{count} processes", None, "no time left")
        return
    rate = _in_processes(setup, count, batch, 8 if setup.tiny else 400)
    yield row(f"{count} processes at once, the project's loop", rate,
              "images/s of all; ratio to one network", rate / looped)  # fmt: skip


def _as_one(setup: Setup, count: int, batch: int) -> Rows:
    """All networks in one step, their parameters stacked, against one step for each."""
    from patchwork.models.tasks import encode_all
    from torch.func import functional_call, grad, stack_module_state, vmap

    networks = [_network(SMALL, 64, 0.0, seed).to(setup.device).train() for seed in range(count)]
    for network in networks:
        for module in network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False  # the fused kernel has no rule for stacked inputs
    base = networks[0]
    source = InMemory(noise_images(256, 64))
    drawn = list(source.batches(np.arange(count * batch) % 256, batch))
    images = torch.stack([images for images, _ in drawn]).to(setup.device)
    encoded = [encode_all(base.targets, labels) for _, labels in drawn]
    wanted = {name: torch.stack([one[name] for one in encoded]).to(setup.device)
              for name in base.targets}  # fmt: skip

    def total(outputs, aims):
        return sum(t.weight * t.losses(outputs[name], aims[name]).mean()
                   for name, t in base.targets.items())  # fmt: skip

    parameters, buffers = stack_module_state(networks)
    trained = {k for k, p in base.named_parameters() if p.requires_grad}
    moving = {k: v.detach().clone() for k, v in parameters.items() if k in trained}
    still = {k: v.detach() for k, v in parameters.items() if k not in trained}

    def loss(own, fixed, x, aims):
        return total(functional_call(base, {**own, **fixed}, (x,)), aims)

    gradients = vmap(grad(loss), randomness="different")

    def at_once() -> dict:
        with torch.autocast(setup.device.type, torch.bfloat16, cache_enabled=False):
            return gradients(moving, {**still, **buffers}, images, wanted)

    def one_by_one() -> list:
        found = []
        for i, network in enumerate(networks):
            aims = {name: value[i] for name, value in wanted.items()}
            with torch.autocast(setup.device.type, torch.bfloat16, cache_enabled=False):
                value = total(network(images[i]), aims)
            chosen = [p for k, p in network.named_parameters() if k in trained]
            found.append(torch.autograd.grad(value, chosen))
        return found

    names = [k for k, _ in base.named_parameters() if k in trained]
    stacked, single = gradients(moving, {**still, **buffers}, images, wanted), []
    for i, network in enumerate(networks):
        value = total(network(images[i]), {name: x[i] for name, x in wanted.items()})
        single.append(
            torch.autograd.grad(value, [p for k, p in network.named_parameters() if k in trained])
        )
    off = max(float((stacked[k][i] - single[i][j]).abs().max() / single[i][j].abs().max().clamp_min(
        1e-12)) for j, k in enumerate(names) for i in range(count))  # fmt: skip
    yield row("gradients of stacked networks, fp32", off, "largest deviation, of the largest entry")
    optimisers = [torch.optim.AdamW([p for p in n.parameters() if p.requires_grad], fused=True)
                  for n in networks]  # fmt: skip
    joint = torch.optim.AdamW(list(moving.values()), fused=True)

    def step_each() -> None:
        for one, network, optimiser in zip(one_by_one(), networks, optimisers, strict=True):
            chosen = [p for k, p in network.named_parameters() if k in trained]
            for p, g in zip(chosen, one, strict=True):
                p.grad = g
            optimiser.step()

    def step_all() -> None:
        found = at_once()
        for k, p in moving.items():
            p.grad = found[k].contiguous()
        joint.step()

    rates = {}
    for name, run in (("one after the other", step_each), ("stacked", step_all)):
        setup.clear()
        rates[name] = count * batch / setup.seconds(run, 20)
        beside = f"images/s of all, bare steps; {setup.peak_gb()}"
        yield row(f"{count} networks, {name}", rates[name], beside,
                  rates[name] / rates["one after the other"])  # fmt: skip


def _child(device: str, batch: int, steps: int, barrier, queue) -> None:
    torch.set_num_threads(1)
    try:
        network = _network(SMALL, 64, 0.0, 0).to(torch.device(device))
        source = InMemory(noise_images(256, 64))
        fit(network, source, batch, 4)
        network = _network(SMALL, 64, 0.0, 0).to(torch.device(device))
        barrier.wait(timeout=60)
        queue.put(fit(network, source, batch, steps).ticks)
    except Exception as error:
        barrier.abort()
        queue.put(f"{type(error).__name__}: {error}"[:200])


def _in_processes(setup: Setup, count: int, batch: int, steps: int) -> float:
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(count), context.Queue()
    arguments = (setup.device.type, batch, steps, barrier, queue)
    processes = [context.Process(target=_child, args=arguments) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        found = [queue.get(timeout=75) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
    failed = [one for one in found if isinstance(one, str)]
    if failed:
        raise RuntimeError(failed[0])
    # The clock is the machine's, so a window can be cut in which all of them run.
    first, last = max(ticks[1] for ticks in found), min(ticks[-1] for ticks in found)
    within = sum(first <= tick < last for ticks in found for tick in ticks)
    return batch * within / (last - first)


# Each with the seconds that it may take of eight minutes.
SECTIONS: dict[str, tuple[Callable[[Setup, float], Rows], float]] = {
    "facts": (facts, 20),
    "tests": (tests, 120),
    "training": (training, 120),
    "loader": (loader, 60),
    "evaluation": (evaluation, 40),
    "heads": (heads, 60),
    "patching": (patching, 40),
    "together": (together, 60),
}
