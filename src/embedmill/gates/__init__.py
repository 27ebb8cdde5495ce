"""Checks that a candidate must pass before it goes live."""

from embedmill.gates.base import Gate, run_gates
from embedmill.gates.catalog import accounting, churn, empty, quarantine
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
}
"""Every gate by the name that `--accept` takes, in the order in which they run."""

OVERRIDABLE = frozenset({"quarantine", "empty", "churn", "relevance"})
"""Gates that a person may accept a failure of; no others."""

__all__ = ["GATES", "OVERRIDABLE", "Gate", "Vectorcheck", "check_relevance", "run_gates"]
