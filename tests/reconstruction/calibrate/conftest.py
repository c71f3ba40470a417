"""The experiment that the helpers are tried on."""

from __future__ import annotations

from tests.faulty_experiment import case  # noqa: F401  # a fixture
