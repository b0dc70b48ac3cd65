"""Counter-based randomness: what an image draws depends on its seed and index alone."""

import numpy as np

_U64_END = 2**64


def stream(seed: int, index: int, purpose: int = 0) -> np.random.Philox:
    """The random stream that belongs to one image and one purpose.

    The seed is the key of a Philox generator; index and purpose are the high words of its counter,
    so streams of different images never overlap and need no common state.

    Args:
        seed: 0 to 2**64 - 1.
        index: number of the image within its dataset, 0 to 2**64 - 1.
        purpose: separates what one image draws (geometry, noise), 0 to 2**64 - 1.

    Returns:
        A bit generator at the start of that stream.

    Raises:
        ValueError: if an argument is out of range.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    for name, value in (("seed", seed), ("index", index), ("purpose", purpose)):
        if not 0 <= value < _U64_END:
            raise ValueError(f"{name} is {value}; allowed is 0 to 2**64 - 1")
    return np.random.Philox(
        key=np.array([seed, 0], dtype=np.uint64),
        counter=np.array([0, 0, index, purpose], dtype=np.uint64),
    )


def uniforms(seed: int, indices: np.ndarray, n_draws: int, purpose: int = 0) -> np.ndarray:
    """The first `n_draws` uniform numbers of each image's stream.

    Args:
        seed: 0 to 2**64 - 1.
        indices: shape (n,), image numbers.
        n_draws: numbers wanted for each image.
        purpose: as in `stream`.

    Returns:
        shape (n, n_draws), float64 in [0, 1).
    """
    raw = np.empty((len(indices), n_draws), dtype=np.uint64)
    for row, index in zip(raw, indices, strict=True):
        row[:] = stream(seed, int(index), purpose).random_raw(n_draws)
    return (raw >> np.uint64(11)) * 2.0**-53


def sixteen_bits(bits: np.random.Philox, n_draws: int) -> np.ndarray:
    """Uniform 16-bit integers, four from each 64-bit output, the same on any byte order.

    Args:
        bits: the stream to draw from; it moves on.
        n_draws: how many.

    Returns:
        shape (n_draws,), uint16, 0 to 65535.
    """
    words = bits.random_raw(-(-n_draws // 4)).astype("<u8", copy=False)
    return words.view("<u2")[:n_draws]


def uniform_integers(uniform: np.ndarray, low: int, high: int) -> np.ndarray:
    """Maps uniform numbers in [0, 1) to equally likely integers low..high, both included."""
    return low + np.floor(uniform * (high - low + 1)).astype(np.int64)
