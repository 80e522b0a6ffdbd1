"""A series of measurements and its quantiles."""

import math


class Series:
    """Values in the order of measurement."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def add(self, value: float) -> None:
        self._values.append(value)

    def quantile(self, q: float) -> float:
        """Return the smallest value that a share ``q`` of all does not exceed (nearest rank)."""
        ordered = sorted(self._values)
        return ordered[max(0, math.ceil(q * len(ordered)) - 1)]

    def summary(self) -> dict[str, float]:
        return {f"p{round(q * 100)}": round(self.quantile(q), 3) for q in (0.5, 0.9, 0.99)}
