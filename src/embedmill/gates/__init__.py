"""Checks that a candidate must pass before it goes live."""

from embedmill.gates.base import (
    OF_PRODUCTION,
    OVERRIDABLE,
    OWN_ANEW,
    Gate,
    check_acceptable,
    gate_failure,
    run_gates,
)
from embedmill.gates.catalog import accounting, churn, empty, quarantine
from embedmill.gates.environment import NO_ENVIRONMENT, check_environment, environment
from embedmill.gates.package import goldens
from embedmill.gates.production import NO_SERVER, parity
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
    "goldens": goldens,
    "relevance": relevance,
    "environment": environment,
    "parity": parity,
}
"""Every gate by the name that `--accept` takes, in the order in which they run."""

UNDECLARED = frozenset({NO_ENVIRONMENT, NO_SERVER})
"""What gates say that pass because there is nothing to look at."""

__all__ = [
    "GATES",
    "OF_PRODUCTION",
    "OVERRIDABLE",
    "OWN_ANEW",
    "UNDECLARED",
    "Gate",
    "Vectorcheck",
    "check_acceptable",
    "check_environment",
    "check_relevance",
    "gate_failure",
    "run_gates",
]
