"""Structural similarity as a loss, beside the squared error.

The prediction with the least squared error is a mean over all specimens that may be, flatter along
the beam than any of them. Where it correlates with the truth by c, contrast of c times the true one
is best for the squared error, the true one for structural similarity; half way costs hardly any of
the first and gains most of the second.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool3d

__all__ = ["structural_similarity"]

_WINDOW = 7  # voxels, as `evaluation.compare_volumes`
_C1, _C2 = 0.01**2, 0.03**2  # of Wang et al., for a range of 1


def structural_similarity(volumes: Tensor, truth: Tensor) -> Tensor:
    """Mean structural similarity of each volume, scaled by the range of the true one.

    Parameters
    ----------
    volumes, truth : (B, z, y, x) float32 tensors
        In any unit; at least one voxel thick, seven wide.

    Returns
    -------
    (B,) tensor
        From -1 to 1, differentiable. Over windows of 7x7x7 voxels that lie within the volume (as
        thick as it is, if that is less), all voxels alike.

    References
    ----------
    Wang et al., "Image quality assessment: from error visibility to structural similarity",
    IEEE Trans. Image Process. 13, 600 (2004), equation 13; with sample variances, as scikit-image.
    """
    depth = min(_WINDOW, truth.shape[1] - (1 - truth.shape[1] % 2))
    window = (depth, _WINDOW, _WINDOW)
    low, high = truth.amin((1, 2, 3), keepdim=True), truth.amax((1, 2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    x, y = ((volume - low) / span for volume in (volumes, truth))

    def mean(volume: Tensor) -> Tensor:
        return avg_pool3d(volume[:, None], window, stride=1)[:, 0]

    count = depth * _WINDOW**2
    sample = count / (count - 1)
    mean_x, mean_y = mean(x), mean(y)
    variances = sample * (mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2)
    covariance = sample * (mean(x * y) - mean_x * mean_y)
    similarity = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + _C1) * (variances + _C2))
    return similarity.mean((1, 2, 3))
