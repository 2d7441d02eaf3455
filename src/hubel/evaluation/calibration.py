"""Whether probabilities mean what they say: reliability, calibration error, and the temperature that corrects it."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import binomtest
from torch import Tensor

from hubel.data import Split
from hubel.evaluation.intervals import Interval, wilson_interval

Floats = NDArray[np.floating]
BINS = 15  # as Guo et al. 2017
FEW = 5  # wrong answers, or right ones; with fewer, no bin's accuracy is near normal
COLDEST, HOTTEST = math.log(0.01), math.log(100.0)  # of a temperature's logarithm


@dataclass(frozen=True)
class Reliability:
    """Pictures by the probability of their likeliest class; bins without a picture are left out.

    Args:
        low, high: ends of each bin, B.
        n: pictures, B.
        confidence: mean probability, B.
        accuracy: share whose likeliest class is the label, B.
        chance, seen: per bin the sum over its pictures of the variance that the probabilities promise, p (1 - p), and
            of the squared difference between what happened (1 or 0) and the probability, B.
    """

    low: Floats
    high: Floats
    n: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    chance: Floats
    seen: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean over the pictures of |accuracy - confidence| of their bin  (Naeini et al.
        2015).

        Its expectation is above zero even for perfect probabilities, because every bin's accuracy is off by chance.
        """
        return float(abs(self.gaps).sum())

    @property
    def gaps(self) -> Floats:
        """Each bin's share in the error, with its sign, B."""
        return self.n / self.n.sum() * (self.accuracy - self.confidence)

    def error_interval(self) -> tuple[float, Interval]:
        """The error without the part that is chance, and its 95 % interval.

        Resampling would add the chance of the sample to that of the resample, and its intervals miss small errors
        nearly always. Instead the true gaps are taken to be s times the likely ones (`likely_gaps`), and the ends are
        the two s at which an error as small, or as large, as the one seen has a probability of 2.5 %; where it has one
        half lies the estimate. The error given s is a sum of folded normal variables, whose mean and variance are known
        (Leone et al. 1961) and whose distribution is close to a gamma distribution's.

        Where hardly any answer is wrong, or right, the bins show no gaps though there may be some. But the error is no
        smaller than the difference of mean probability and accuracy, so the interval holds what that of the accuracy
        allows it to be.
        """
        total, at = self.n.sum(), np.array([0.975, 0.5, 0.025])
        likely = self.likely_gaps()

        def probability_below(scale: Floats) -> Floats:
            """That an error as seen, or smaller, comes from gaps of these scales."""
            centre, share = scale[:, None] * likely, np.minimum(scale, 1)[:, None]
            seen = np.maximum((1 - share) * self.chance + share * self.seen, 1e-12)
            variance = np.maximum(seen / total**2 - centre**2 / total, 1e-18)
            ratio = centre / np.sqrt(2 * variance)
            mean = np.sqrt(2 / math.pi * variance) * np.exp(-(ratio**2)) + centre * special.erf(ratio)
            mu, spread = mean.sum(axis=1), np.maximum(centre**2 + variance - mean**2, 1e-24).sum(axis=1)
            return special.gammainc(mu**2 / spread, self.error * mu / spread)

        low, high = np.zeros(3), np.ones(3)
        while self.error > 0 and (probability_below(high) > at).any() and high[0] < 1e9:
            high *= 2
        for _ in range(32):  # halvings
            middle = (low + high) / 2
            above = probability_below(middle) > at
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        scales = np.where(probability_below(np.zeros(3)) > at, high, 0)
        lower, estimate, upper = np.minimum(scales * abs(likely).sum(), 1).tolist()
        hits = round(float(self.accuracy @ self.n))
        if min(hits, total - hits) < FEW:
            accuracy = binomtest(hits, int(total)).proportion_ci()  # exact: Clopper & Pearson 1934
            mean = float(self.confidence @ self.n / total)
            gaps = mean - accuracy.high, mean - accuracy.low
            upper = max(upper, -gaps[0], gaps[1])
            lower = min(lower, max(0.0, gaps[0], -gaps[1]))
        return estimate, (lower, upper)

    def likely_gaps(self) -> Floats:
        """The gaps with those of small bins drawn toward what all bins say, as far as chance explains why they differ,
        B.

        A shift of the logits moves a probability p by p (1 - p) times as much, so the gaps of accuracy and confidence
        in these units are taken to be normal around one mean  (DerSimonian & Laird 1986). Around a mean of the gaps
        themselves, the bin of the sure answers, which says most and has nearly no gap, would draw all others to itself.
        """
        unit = np.maximum(self.chance / self.n, 1e-4)
        gap = (self.accuracy - self.confidence) / unit
        variance = np.maximum(np.maximum(self.chance, self.seen) / self.n**2, 1e-12) / unit**2
        weight = 1 / variance
        mean = weight @ gap / weight.sum()
        excess = weight @ (gap - mean) ** 2 - (len(gap) - 1)
        between = max(0.0, excess / max(weight.sum() - weight @ weight / weight.sum(), 1e-12))
        return self.n / self.n.sum() * unit * (mean + between / (between + variance) * (gap - mean))

    def rows(self) -> list[dict[str, float]]:
        """Per bin: low, high, n, confidence, accuracy and its Wilson interval, for a diagram."""
        return [
            {
                "low": float(low),
                "high": float(high),
                "n": int(n),
                "confidence": float(confidence),
                "accuracy": float(accuracy),
                "accuracy_low": interval[0],
                "accuracy_high": interval[1],
            }
            for low, high, n, confidence, accuracy in zip(
                self.low, self.high, self.n, self.confidence, self.accuracy, strict=True
            )
            for interval in [wilson_interval(round(accuracy * n), n)]
        ]


def reliability(confidence: Floats, right: NDArray[np.bool_], *, adaptive: bool = False) -> Reliability:
    """Pictures in `BINS` bins of equal width, or of equally many pictures  (Nguyen & O'Connor 2015).

    Args:
        confidence: probability of the likeliest class, N.
        right: whether it is the label, N.
        adaptive: bins of equally many pictures.
    """
    confidence = confidence.astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1)
    if adaptive:
        edges = np.unique(np.quantile(confidence, edges))
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, max(len(edges) - 2, 0))

    def summed(values: Floats) -> Floats:
        return np.bincount(which, values, minlength=max(len(edges) - 1, 1)).astype(np.float64)

    n = summed(np.ones(len(confidence)))
    kept = n > 0
    sums = (
        summed(values)[kept]
        for values in (confidence, 1.0 * right, confidence * (1 - confidence), (right - confidence) ** 2)
    )
    confidences, hits, chance, seen = sums
    n = n[kept]
    ends = edges if len(edges) > 1 else np.repeat(edges, 2)
    return Reliability(ends[:-1][kept], ends[1:][kept], n.astype(np.int64), confidences / n, hits / n, chance, seen)


def fitted_temperature(logits: Tensor, labels: NDArray[np.int64]) -> float:
    """The temperature by which logits are divided so that the log loss is least  (Guo et al. 2017).

    Newton's method on log T in double precision, kept inside a bracket that halves; the same bits for the same logits.
    A temperature that wins less than one nat over all pictures is not told from chance (Akaike 1974) and left at 1.

    Args:
        logits: N K of pictures that the network was not trained on.
        labels: class indices, N.

    Returns:
        1.0 where the data cannot say, such as every answer being right, which asks for ever lower temperatures.
    """
    values = logits.double().numpy()
    shown = values[np.arange(len(values)), labels]

    def loss(log_t: float) -> float:
        scaled = values * math.exp(-log_t)
        return float(np.sum(special.logsumexp(scaled, axis=1)) - np.sum(shown) * math.exp(-log_t))

    def slopes(log_t: float) -> tuple[float, float]:
        """First and second derivative of the mean log loss by log T."""
        scaled = values * math.exp(-log_t)
        weights = special.softmax(scaled, axis=1)
        mean = (weights * scaled).sum(axis=1)
        spread = (weights * scaled**2).sum(axis=1) - mean**2
        first = float((shown * math.exp(-log_t) - mean).mean())
        return first, float(spread.mean()) - first

    low, high = COLDEST, HOTTEST
    if not (slopes(low)[0] < 0 < slopes(high)[0]):
        return 1.0
    log_t = 0.0
    for _ in range(100):
        first, second = slopes(log_t)
        low, high = (log_t, high) if first < 0 else (low, log_t)
        step = log_t - first / second if second > 0 else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - log_t) < 1e-12:
            break
        log_t = following
    return math.exp(log_t) if loss(0.0) - loss(log_t) > 1 else 1.0


def identity(split: Split) -> str:
    """Hash of the pictures and labels of a part, whatever their order; of what a temperature was fitted on."""
    rows = np.concatenate([split.pixel_digests(), split.labels.reshape(len(split), -1).view(np.uint8)], axis=1)
    ordered = np.sort(np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel())
    return hashlib.blake2b(ordered.tobytes(), digest_size=16).hexdigest()
