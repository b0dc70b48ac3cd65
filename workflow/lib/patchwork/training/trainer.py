"""The one training loop: any network, any targets, any number of processes, any interruption."""

import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.tensorboard import SummaryWriter

from patchwork.data.tensors import write_tensors
from patchwork.jobs.log import LOGGER, Progress
from patchwork.models import tasks
from patchwork.models.fine_tuned import Network, trainable
from patchwork.training import checkpoints, feeding
from patchwork.training.evaluation import validate
from patchwork.training.precision import repeatable, resolve, suited_attention

if TYPE_CHECKING:
    # A source brings generators and HDF5 with it, which a training does without.
    from patchwork.data.sources import Source

SCHEDULES = ("constant", "cosine", "plateau")
# ASSUME: a total loss this many times that of the first steps no longer comes back.
_DIVERGED = 1000.0
_N_FIRST = 10
_EVENT_EVERY = 10
_RECORDED = (
    "step", "n_epochs", "best_loss", "best_epoch", "bad_epochs", "stopped", "plateau", "epochs",
)  # fmt: skip
SNAPSHOTS = "snapshots"  # folder beside the checkpoint for encoders kept on the way


class Interrupted(SystemExit):
    """The job got a signal to stop and has written its checkpoint."""


@dataclass
class _State:
    """What changes from step to step, beside parameters and moments."""

    step: int = 0
    # Counts an epoch when it is validated: a checkpoint may lie between its last step and that.
    n_epochs: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    bad_epochs: int = 0
    stopped: bool = False
    plateau: dict = field(default_factory=dict)
    losses: list[list[float]] = field(default_factory=list)
    errors: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    epochs: list[list] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """Logs of a finished training.

    Attributes:
        steps: the table ``training_log.parquet``.
        epochs: the table ``validation.csv``.
        best_epoch: the epoch whose parameters the network has now.
        precision: of the forward pass, ``no`` (fp32) or ``bf16``.
    """

    steps: pd.DataFrame
    epochs: pd.DataFrame
    best_epoch: int
    precision: str


def fit(
    network: Network,
    data: "Source",
    validation: "Source",
    settings: Mapping,
    *,
    seed: int,
    folder: Path,
    events: Path | None = None,
) -> Training:
    """Train a network's trainable parameters; stop early on validation; resume where it was killed.

    Interrupted at any step and called again, it ends with the same bits as if it had not been, on
    the same machine. The network ends with the parameters of its best epoch.

    Args:
        network: see :func:`patchwork.models.fine_tuned.build`.
        data: training examples.
        validation: examples that choose the epoch.
        settings: ``epochs``, ``batch_size`` (over all processes), ``learning_rate``,
            ``weight_decay``, ``schedule`` (``kind`` of `SCHEDULES`, ``warmup_steps``; for
            ``plateau`` ``patience`` and ``factor``), ``early_stopping_patience`` (epochs; null:
            never), ``gradient_clip`` (norm; null: none), ``mixed_precision`` (see `resolve`),
            ``checkpoint_every_s``, perhaps ``snapshot_images`` (examples after which the encoder
            is kept in the folder `SNAPSHOTS` beside the checkpoint).
        seed: of order and dropout.
        folder: of the checkpoint, for this very training only.
        events: folder of the TensorBoard events; beside the checkpoint if None.

    Returns:
        Logs of steps and epochs.

    Raises:
        ValueError: naming step and target, if a loss is not finite or diverges; if the batch
            cannot be shared between processes; or if the training began in another precision.
        Interrupted: after SIGTERM or SIGUSR1, its checkpoint written.
    """
    loop = _Loop(network, data, validation, settings, seed, Path(folder))
    loop.events = Path(events or loop.folder / "events")
    kernels = suited_attention(network, loop.accelerator.mixed_precision)
    repeated = repeatable(loop.accelerator.device)
    with checkpoints.stop_on_signal() as request, torch.random.fork_rng(), kernels, repeated:
        loop.run(request)
    return loop.finish()


class _Loop:
    events: Path

    def __init__(
        self,
        network: Network,
        data: "Source",
        validation: "Source",
        settings: Mapping,
        seed: int,
        folder: Path,
    ) -> None:
        self.data, self.validation = data, validation
        self.settings, self.seed, self.folder = settings, seed, folder
        self.network, self.targets = network, network.targets
        self.weights = [target.weight for target in self.targets.values()]
        # The loaders yield batches that are already shared out, so nothing is left to prepare.
        device = network.mean.device
        self.accelerator = Accelerator(
            mixed_precision=resolve(settings["mixed_precision"], device), cpu=device.type == "cpu"
        )
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            self.parameters,
            lr=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        self.model, self.optimiser = self.accelerator.prepare(network, optimiser)
        self.schedule = settings["schedule"]
        factor, patience = self.schedule.get("factor", 0.5), self.schedule.get("patience", 0)
        self.plateau = ReduceLROnPlateau(optimiser, factor=factor, patience=patience)
        self.n_processes = self.accelerator.num_processes
        self.per_process = self._share()
        self.steps_per_epoch = self._steps_per_epoch()
        self.n_steps = self.steps_per_epoch * settings["epochs"]
        self.state = _State()

    def _share(self) -> int:
        size = self.settings["batch_size"]
        if size % self.n_processes:
            raise ValueError(
                f"batch_size is {size}; allowed is a multiple of the {self.n_processes} processes"
            )
        return size // self.n_processes

    def _steps_per_epoch(self) -> int:
        n, size = len(self.data), self.settings["batch_size"]
        if self.n_processes > 1 and n < size:
            raise ValueError(f"batch_size is {size}; allowed is at most the {n} examples")
        # Several processes need equal shares, so an incomplete last batch is left out for them.
        return max(1, n // size if self.n_processes > 1 else math.ceil(n / size))

    def _events(self) -> AbstractContextManager[SummaryWriter | None]:
        if not self.accelerator.is_main_process:
            return nullcontext()
        if self.state.step == 0:  # events of an older training would be shown as this one's
            shutil.rmtree(self.events, ignore_errors=True)
        return SummaryWriter(str(self.events), purge_step=self.state.step)

    def run(self, request: checkpoints.StopRequest) -> None:
        self._resume()
        state, last, device = self.state, time.monotonic(), self.accelerator.device
        progress = Progress("training", self.n_steps, done=state.step)
        with self._events() as events:
            while state.n_epochs < self.settings["epochs"] and not state.stopped:
                for inputs, encoded in feeding.on_device(self._batches(), self._encode, device):
                    self._step(inputs, encoded)
                    self._snapshot()
                    self._log_events(events)
                    progress.step(state.step, f"loss {self._weighted():.4f}")
                    due = time.monotonic() - last > self.settings["checkpoint_every_s"]
                    signal = int(self._highest(request.signal))
                    if signal or due:
                        self._checkpoint()
                        last = time.monotonic()
                    if signal:
                        LOGGER.info("left at step %d with a checkpoint", state.step)
                        self.accelerator.wait_for_everyone()
                        raise Interrupted(128 + signal)
                self._end_epoch(events)
                self._checkpoint()

    def _highest(self, value: float) -> float:
        """The highest over the processes, which must all stop at the same step."""
        if self.n_processes == 1:
            return value
        own = torch.tensor([value], dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.gather(own).max())

    def _batches(self) -> Iterator[tuple[Tensor, Mapping[str, np.ndarray]]]:
        """What is left of the current epoch, this process's share of each batch."""
        epoch = self.state.n_epochs
        done = self.state.step - epoch * self.steps_per_epoch
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        order = generator.permutation(len(self.data))
        size = self.settings["batch_size"]
        if self.n_processes > 1:
            order = order[: self.steps_per_epoch * size].reshape(-1, size)
            with self.accelerator.split_between_processes(list(order.T)) as mine:
                order = np.stack(mine).T.ravel()
        return self.data.batches(order[done * self.per_process :], self.per_process)

    def _encode(self, labels: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return tasks.encode_all(self.targets, labels)

    def _step(self, inputs: Tensor, encoded: Mapping[str, Tensor]) -> None:
        state, rank = self.state, self.accelerator.process_index
        torch.manual_seed((self.seed * 1_000_003 + state.step) * self.n_processes + rank)
        rate = self._rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if not self.network.training:
            self.model.train()
        outputs = self.model(inputs)
        losses, errors = [], []
        for name, target in self.targets.items():
            losses.append(target.losses(outputs[name], encoded[name]).mean())
            errors.append(target.absolute_errors(outputs[name].detach(), encoded[name]).mean())
        total = sum(w * loss for w, loss in zip(self.weights, losses, strict=True))
        numbers = torch.stack([*losses, *errors]).detach()
        if self.n_processes > 1:
            numbers = self.accelerator.reduce(numbers, reduction="mean")
        fetch = feeding.numbers(numbers)
        self.optimiser.zero_grad()
        self.accelerator.backward(total)
        if self.settings["gradient_clip"] is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.settings["gradient_clip"])
        self.optimiser.step()
        # Only now, when a GPU has the rest of the step to do while it is given the next one.
        values = fetch()
        self._check(values[: len(losses)])
        state.losses.append(values[: len(losses)])
        state.errors.append(values[len(losses) :])
        state.rates.append(rate)
        state.step += 1

    def _weighted(self) -> float:
        return sum(w * loss for w, loss in zip(self.weights, self.state.losses[-1], strict=True))

    def _check(self, losses: list[float]) -> None:
        """Stop at a loss that is no number, or that has left all reason."""
        step, rate = self.state.step, self.settings["learning_rate"]
        for name, loss in zip(self.targets, losses, strict=True):
            if not math.isfinite(loss):
                raise ValueError(
                    f"training: loss of target {name} is {loss} at step {step}; "
                    f"allowed is a finite number: lower learning_rate (now {rate})"
                )
        first = np.asarray(self.state.losses[:_N_FIRST])
        if len(first) == _N_FIRST:
            growth = np.asarray(losses) / np.maximum(first.max(0), 1e-6)
            if growth.max() > _DIVERGED:
                name, loss = list(zip(self.targets, losses, strict=True))[int(growth.argmax())]
                raise ValueError(
                    f"training: loss of target {name} diverged to {loss:g} at step {step}; "
                    f"lower learning_rate (now {rate})"
                )

    def _rate(self) -> float:
        step, base = self.state.step, self.settings["learning_rate"]
        warmup = self.schedule["warmup_steps"]
        if step < warmup:
            return base * (step + 1) / warmup
        if self.schedule["kind"] == "cosine":
            share = (step - warmup) / max(1, self.n_steps - warmup)
            return base * 0.5 * (1 + math.cos(math.pi * share))
        if self.schedule["kind"] == "plateau":
            return self.state.plateau.get("rate", base)
        return base

    def _log_events(self, events: SummaryWriter | None) -> None:
        step = self.state.step
        if events is not None and step % _EVENT_EVERY == 0:
            for name, loss in zip(self.targets, self.state.losses[-1], strict=True):
                events.add_scalar(f"loss/{name}", loss, step)
            events.add_scalar("learning_rate", self.state.rates[-1], step)

    def _end_epoch(self, events: SummaryWriter | None) -> None:
        state, epoch = self.state, self.state.n_epochs
        rows, total = validate(self.network, self.validation, self.settings["batch_size"])
        total = self._highest(total)
        if not math.isfinite(total):
            raise ValueError(f"training: validation loss is {total} after epoch {epoch}")
        state.epochs += [[epoch, state.step, *row] for row in rows]
        if events is not None:
            for target, label, _, r in rows:
                events.add_scalar(f"r/{target}/{label}", r, state.step)
        if total < state.best_loss:
            state.best_loss, state.best_epoch, state.bad_epochs = total, epoch, 0
            state.best = {k: v.clone() for k, v in trainable(self.network).items()}
        else:
            state.bad_epochs += 1
        state.n_epochs += 1
        patience = self.settings["early_stopping_patience"]
        state.stopped = patience is not None and state.bad_epochs >= patience
        if self.schedule["kind"] == "plateau":
            self._lower_rate(total)

    def _lower_rate(self, total: float) -> None:
        for group in self.plateau.optimizer.param_groups:
            group["lr"] = self.state.plateau.get("rate", self.settings["learning_rate"])
        self.plateau.step(total)
        kept = ("best", "num_bad_epochs", "last_epoch", "cooldown_counter")
        self.state.plateau = {key: getattr(self.plateau, key) for key in kept}
        self.state.plateau["rate"] = self.plateau.optimizer.param_groups[0]["lr"]

    def _snapshot(self) -> None:
        """Keep the encoder when the next of ``snapshot_images`` has been seen."""
        due = [n for n in self.settings.get("snapshot_images", ()) if self._just_seen(n)]
        if not due or not self.accelerator.is_main_process:
            return
        rows, total = validate(self.network, self.validation, self.settings["batch_size"])
        scores = {label: r for _, label, _, r in rows if math.isfinite(r)}
        for n in due:
            record = {"images": n, "loss": total, "scores": scores}
            path = self.folder / SNAPSHOTS / f"{n}.safetensors"
            write_tensors(self.network.encoder.state_dict(), record, path)

    def _just_seen(self, n: int) -> bool:
        """Whether example n was in the last step; the last batch of an epoch may be smaller."""
        size, per_epoch = self.settings["batch_size"], self.steps_per_epoch
        epochs, rest = divmod(n, min(len(self.data), per_epoch * size))
        return self.state.step == epochs * per_epoch + math.ceil(rest / size)

    def _checkpoint(self) -> None:
        if not self.accelerator.is_main_process:
            return
        state = self.state
        tensors = {f"now.{k}": v for k, v in trainable(self.network).items()}
        tensors |= {f"best.{k}": v for k, v in state.best.items()}
        tensors |= checkpoints.optimiser_tensors(self.optimiser)
        for key in ("losses", "errors", "rates"):
            tensors[f"log.{key}"] = torch.tensor(getattr(state, key), dtype=torch.float64)
        record = {key: getattr(state, key) for key in _RECORDED}
        record["precision"] = self.accelerator.mixed_precision
        checkpoints.write(self.folder, tensors, record)

    def _resume(self) -> None:
        found = checkpoints.read(self.folder)
        if found is None:
            return
        tensors, record = found
        began, own = record.pop("precision"), self.accelerator.mixed_precision
        if began != own:
            raise ValueError(
                f"{self.folder}: training began with mixed_precision {began} and would go on with "
                f"{own} on this machine; allowed is {began}: go on where it began, or remove the "
                "folder to start anew"
            )
        for key, value in record.items():
            setattr(self.state, key, value)
        for key in ("losses", "errors", "rates"):
            setattr(self.state, key, tensors[f"log.{key}"].tolist())
        device = self.accelerator.device
        self.state.best = {k[5:]: v.to(device) for k, v in tensors.items() if k.startswith("best.")}
        self._set({k[4:]: v for k, v in tensors.items() if k.startswith("now.")})
        checkpoints.restore_optimiser(self.optimiser, tensors)
        for key, value in self.state.plateau.items():
            if key != "rate":
                setattr(self.plateau, key, value)
        LOGGER.info("resumed at step %d", self.state.step)

    def _set(self, values: Mapping[str, Tensor]) -> None:
        own = trainable(self.network)
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)

    def finish(self) -> Training:
        state, names = self.state, list(self.targets)
        self._set(state.best)
        self.network.eval()
        n, k = len(state.losses), len(names)
        step = np.repeat(np.arange(n), k)
        steps = pd.DataFrame(
            {
                "step": step,
                "epoch": step // self.steps_per_epoch,
                "learning_rate": np.repeat(state.rates, k),
                "target": np.tile(names, n),
                "loss": np.ravel(state.losses),
                "absolute_error": np.ravel(state.errors),
            }
        )
        columns = ["epoch", "step", "target", "label", "loss", "r"]
        epochs = pd.DataFrame(state.epochs, columns=columns)
        return Training(steps, epochs, state.best_epoch, self.accelerator.mixed_precision)
