"""Which noise levels training draws, and what it has learned at each.

The objective is the mean of w(logsnr) times the v-loss over the trained range, w a Gaussian with a
uniform floor. Levels where the weighted loss is large are drawn more often and count less (Kingma
and Gao 2023, Understanding Diffusion Objectives, arXiv 2303.00848, appendix F): the objective stays
what it is, its estimate scatters less.
"""

from __future__ import annotations

import math

import numpy as np

from napari_mep.training.settings import TrainingSettings

__all__ = ["NoiseLevels"]

_BIN_WIDTH = 0.25  # logSNR; the loss changes little over it
_UNIFORM = 0.02  # of the draws go anywhere, so that no bin is forgotten
_MEMORY = 0.02  # of the running means, per draw


class NoiseLevels:
    """Adaptive draws of logSNR and the running mean of the v-loss per bin.

    Times sigmoid(-logsnr) that mean is the denoiser's own mean squared error in scaled units (its
    MMSE curve).

    Parameters
    ----------
    settings : TrainingSettings
        Range, weighting and whether draws adapt.

    Attributes
    ----------
    edges : (n + 1,) float64 ndarray
        Borders of the bins.
    loss : (n,) float64 ndarray
        Running mean of the unweighted v-loss; nan in bins that were never drawn.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        low, high = settings.logsnr_low, settings.logsnr_high
        self.edges = np.linspace(low, high, max(1, math.ceil((high - low) / _BIN_WIDTH)) + 1)
        self.loss = np.full(len(self.edges) - 1, np.nan)

    def weight(self, logsnr: np.ndarray) -> np.ndarray:
        """Weighting of the objective, mean 1 over the trained range."""
        s = self.settings
        root = math.sqrt(2) * s.logsnr_width
        inside = math.erf((s.logsnr_high - s.logsnr_mean) / root) - math.erf(
            (s.logsnr_low - s.logsnr_mean) / root
        )
        mean = s.logsnr_width * math.sqrt(math.pi / 2) * inside / (s.logsnr_high - s.logsnr_low)
        gauss = np.exp(-0.5 * ((logsnr - s.logsnr_mean) / s.logsnr_width) ** 2) / mean
        return (1 - s.uniform_fraction) * gauss + s.uniform_fraction

    def density(self) -> np.ndarray:
        """Probability that a draw falls into each bin, (n,)."""
        share = self.weight(0.5 * (self.edges[1:] + self.edges[:-1]))
        if self.settings.noise_levels == "adaptive":
            # A network that knows nothing yet leaves a v-loss of about 1.
            share = share * np.where(np.isnan(self.loss), 1.0, self.loss)
        return (1 - _UNIFORM) * share / share.sum() + _UNIFORM / len(share)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Stratified levels, and what the loss of each counts in the objective.

        Returns
        -------
        logsnr, importance : (count,) float64 ndarrays
            The mean of importance times v-loss estimates the objective without bias.
        """
        density = self.density()
        cumulative = np.concatenate([[0], np.cumsum(density)])
        quantiles = (rng.permutation(count) + rng.random(count)) / count
        logsnr = np.interp(quantiles, cumulative / cumulative[-1], self.edges)
        relative = density[self._bins(logsnr)] * len(density)  # to a uniform density
        return logsnr, self.weight(logsnr) / relative

    def update(self, logsnr: np.ndarray, loss: np.ndarray) -> None:
        """Take in the v-losses (B,) of volumes noised to logsnr (B,); their order is no matter."""
        bins, n = self._bins(logsnr), len(self.loss)
        hits = np.bincount(bins, minlength=n)
        hit = hits > 0
        mean = np.bincount(bins, loss, n)[hit] / hits[hit]
        old = np.where(np.isnan(self.loss[hit]), mean, self.loss[hit])
        self.loss[hit] = old + (1 - (1 - _MEMORY) ** hits[hit]) * (mean - old)

    def bands(self, count: int = 6) -> tuple[list[float], list[float | None]]:
        """The curve in a few bands for display: edges (count + 1) and mean v-losses (count)."""
        parts = np.array_split(np.arange(len(self.loss)), count)
        edges = [float(self.edges[part[0]]) for part in parts] + [float(self.edges[-1])]
        seen = [self.loss[part][~np.isnan(self.loss[part])] for part in parts]
        return edges, [float(values.mean()) if len(values) else None for values in seen]

    def state(self) -> dict[str, list[float | None]]:
        """What a checkpoint keeps; `restore` takes it back."""
        loss = [None if np.isnan(v) else float(v) for v in self.loss]
        return {"loss_curve_edges": self.edges.tolist(), "loss_curve": loss}

    def restore(self, state: dict[str, list[float | None]]) -> None:
        """Continue from a checkpoint, also one with other bins."""
        edges = np.array(state["loss_curve_edges"], float)
        loss = np.array([np.nan if v is None else v for v in state["loss_curve"]])
        middle = 0.5 * (self.edges[1:] + self.edges[:-1])
        known = (middle > edges[0]) & (middle < edges[-1])
        bins = np.clip(np.searchsorted(edges, middle) - 1, 0, len(loss) - 1)
        self.loss = np.where(known, loss[bins], np.nan)

    def _bins(self, logsnr: np.ndarray) -> np.ndarray:
        return np.clip(np.searchsorted(self.edges, logsnr, "right") - 1, 0, len(self.loss) - 1)
