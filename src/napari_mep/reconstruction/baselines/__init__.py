"""Solvers by other people's packages, each in a process of its own.

PtyRAD and Pty-Chi change torch's global state on import and on use, so neither is ever loaded here:
`process` starts a child for each run, `job` says what the two tell each other, and one adapter per
package speaks its language in the child.
"""

from napari_mep.reconstruction.baselines.catalogue import BASELINES, Baseline

__all__ = ["BASELINES", "Baseline"]
