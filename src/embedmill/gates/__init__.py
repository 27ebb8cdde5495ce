"""Checks that a candidate must pass before it goes live."""

from embedmill.gates.base import Gate, run_gates
from embedmill.gates.catalog import accounting, churn, empty, quarantine
from embedmill.gates.environment import check_environment, environment
from embedmill.gates.production import parity
from embedmill.gates.relevance import check_relevance, relevance
from embedmill.gates.vectors import Vectorcheck, dimension, finite, norms, not_constant, not_zero

GATES: dict[str, Gate] = {
    "accounting": accounting,
    "quarantine": quarantine,
    "empty": empty,
    "churn": churn,
    "dimension": dimension,
    "finite": finite,
    "non-zero": not_zero,
    "non-constant": not_constant,
    "norms": norms,
    "relevance": relevance,
    "environment": environment,
    "parity": parity,
}
"""Every gate by the name that `--accept` takes, in the order in which they run."""

OVERRIDABLE = frozenset({"quarantine", "empty", "churn", "relevance"})
"""Gates that a person may accept a failure of; no others."""

OF_PRODUCTION = frozenset({"environment", "parity"})
"""Gates that find fault with where a candidate is to be served, and never with what was computed."""

__all__ = [
    "GATES",
    "OF_PRODUCTION",
    "OVERRIDABLE",
    "Gate",
    "Vectorcheck",
    "check_environment",
    "check_relevance",
    "run_gates",
]
