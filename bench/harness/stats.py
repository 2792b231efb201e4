"""Statistics over samples and over rounds."""

from __future__ import annotations

import base64
from array import array
from typing import Sequence


def unpack(text: str) -> array:
    """The samples a worker sent: base64 of little-endian u32, in nanoseconds."""
    values = array("I")
    values.frombytes(base64.b64decode(text))
    return values


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the share q of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def summary_us(samples: Sequence[int]) -> dict:
    """Count, median, p99 and maximum of samples in nanoseconds, as microseconds."""
    return {
        "n": len(samples),
        "p50_us": round(quantile(samples, 0.5) / 1e3, 2),
        "p99_us": round(quantile(samples, 0.99) / 1e3, 2),
        "max_us": round(max(samples) / 1e3, 2),
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict:
    """The median over rounds of ours / theirs in the same round, and the middle half of those ratios.

    A disturbance of the machine that lasts longer than a round hits both and cancels out.
    """
    ratios = [a / b for a, b in zip(ours, theirs, strict=True) if b]
    return {
        "median": round(median(ratios), 4),
        "q1": round(quantile(ratios, 0.25), 4),
        "q3": round(quantile(ratios, 0.75), 4),
    }
