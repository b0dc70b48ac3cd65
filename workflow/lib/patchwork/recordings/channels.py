"""Which channels of a recording are searched, and why the others are not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from patchwork.stimuli.spectrograms import FREQUENCY_MAX_HZ

# What `data` takes, in MNE's types.
DATA = frozenset({"eeg", "mag", "grad", "csd", "seeg", "ecog", "dbs"})
# Of these, what MNE gives in volts and is of the size of an EEG.
VOLT_KINDS = frozenset({"eeg", "ecog", "seeg", "dbs"})
_GROUPS = {"data": DATA, "meg": frozenset({"mag", "grad"})}
# ASSUME: filters of amplifiers, and of resampling, leave this share of a sampling rate.
_USABLE = 0.45
FULL_RATE_HZ = FREQUENCY_MAX_HZ / _USABLE
# ASSUME: half of the band at least, which 100 Hz nearly hold: the rate of many sleep recordings.
RATE_MIN_HZ = FREQUENCY_MAX_HZ


def top_hz(rate_hz: float) -> float:
    """The highest frequency of 0 to 100 Hz that a sampling rate holds."""
    return min(FREQUENCY_MAX_HZ, _USABLE * rate_hz)


# EDF and its like tell no types; labels follow Kemp and Olivan 2003, "EDF+ standard texts", and the
# usual names of polysomnography. A word stands alone, with no letter before or after it, and where
# contacts of depth electrodes are numbered under the same name (LOC1, ACC2) with no digit either.
_WORDS = {
    "stim": "sti|stim|status|trigger|trig|marker|mk|events?|annotations?|photic",
    "eog": r"[hv]?eog[lrhv]?|[lr]oc(?!\d)",
    "emg": r"emg|chin|[lr]?legs?(?!\d)|tib|submental",
    "ecg": "e[ck]g[lr]?|heart|pulse|hr|bpm",
    "resp": "resp|respiration|thor|thorax|thoracic|abd|abdo|abdomen|abdominal|chest|flow|airflow|"
    "nasal|cannula|therm|thermistor|snore|pleth|[cn]pap|pressure|effort|ribcage",
    "oxygen": "sp ?o2|sa ?o2|et ?co2|co2|osat|sat",
    "other": r"temp(?! ?\d)|temperature|rectal|light|position|dc ?\d+|ibi|bursts?|suppr|gsr|eda|"
    r"acc[ _-]?[xyz]|accel|gyro|battery|audio|mic|sound|aux\d*",
}
_KINDS = {
    kind: re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)
    for kind, words in _WORDS.items()
}


@dataclass(frozen=True)
class Channel:
    """One channel of a file.

    Attributes:
        name: as in the file.
        kind: MNE's type, or where the file tells none what the label says.
        rate_hz: at which it was sampled.
        is_bad: whether the file marks it so.
    """

    name: str
    kind: str
    rate_hz: float
    is_bad: bool = False


@dataclass(frozen=True)
class Choice:
    """Channels that are searched.

    Attributes:
        taken: channels in the order of the file.
        left_out: name to reason.
        by_name: whether someone named them; such channels are refused rather than left out.
    """

    taken: tuple[Channel, ...]
    left_out: Mapping[str, str]
    by_name: bool

    def without(self, reasons: Mapping[str, str]) -> "Choice":
        """The choice after leaving out more channels, name to reason."""
        taken = tuple(one for one in self.taken if one.name not in reasons)
        return replace(self, taken=taken, left_out={**self.left_out, **reasons})

    def line(self) -> str:
        """What is left out, by reason: ``SpO2, CO2 (oxygen); Pz (flat at 0)``."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            by_reason.setdefault(why, []).append(name)
        return "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items())


def kind_of(label: str) -> str:
    """What the label of an EDF channel says that it is: a key of ``_WORDS``, or ``eeg``."""
    return next((kind for kind, words in _KINDS.items() if words.search(label)), "eeg")


def choose(
    path: Path, channels: Sequence[Channel], picks: str | Sequence[str], exclude: Sequence[str] = ()
) -> Choice:
    """The channels to search.

    Args:
        path: of the recording, for errors.
        channels: of the file.
        picks: ``data``, ``meg``, one kind, or names.
        exclude: names to leave out.

    Raises:
        ValueError: for a name that the file lacks, a named channel that is too slow or excluded,
            and where nothing is left.
    """
    names = [one.name for one in channels]
    for key, wanted in (("picks", picks), ("exclude", exclude)):
        for name in () if isinstance(wanted, str) else wanted:
            if name not in names:
                shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
                raise ValueError(f"{path}: {key} has {name!r}; allowed is {shown}")
    reasons = {
        one.name: why for one in channels if (why := _why_not(one, picks, exclude)) is not None
    }
    if isinstance(picks, str):
        kinds = sorted({one.kind for one in channels} - {"stim"})
        allowed = f"data, {', '.join(kinds)}, or a list of names"
        found = Choice(tuple(channels), {}, by_name=False).without(reasons)
        if not found.taken:
            raise ValueError(
                f"{path}: picks is {picks!r}, which finds no good channel: {found.line()}; "
                f"allowed is {allowed}"
            )
        return found
    if not picks:
        raise ValueError(f"{path}: picks is empty; allowed is data, or one name or more")
    for name in picks:
        if name in reasons:
            raise ValueError(
                f"{path}: picks has {name!r}, which cannot be searched ({reasons[name]}); allowed "
                f"are channels sampled at {RATE_MIN_HZ:g} Hz or more that exclude does not name"
            )
    return Choice(tuple(one for one in channels if one.name in picks), {}, by_name=True)


def _why_not(one: Channel, picks: str | Sequence[str], exclude: Sequence[str]) -> str | None:
    if one.name in exclude:
        return "excluded"
    if isinstance(picks, str):
        if one.kind not in _GROUPS.get(picks, {picks}):
            return one.kind
        if one.is_bad:
            return "marked as bad"
    if one.rate_hz < RATE_MIN_HZ:
        return f"{one.rate_hz:g} Hz, below {RATE_MIN_HZ:g} Hz"
    return None
