"""Requests made of the API's own document, as it allows them and as it forbids them."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from tests.serving_group.addresses import KNOWN, Operation, document, operations
from tests.support.server_process import ServerProcess

SCHEMA = schemathesis.openapi.from_dict(document())
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]
FILTERED = settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
"""Some of what is made by negation is allowed after all, and left out."""


@pytest.mark.soak(quick=1, large=20)
@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
def test_what_the_document_allows_gets_the_answer_that_it_says(
    server: ServerProcess, operation: Operation, seed: int
) -> None:
    ask(server, operation, GenerationMode.POSITIVE)


@pytest.mark.soak(quick=1, large=20)
@pytest.mark.parametrize(
    "operation",
    [each for each in operations() if each.method == "POST"],
    ids=lambda operation: operation.label,
)
def test_what_the_document_forbids_is_no_server_error(
    server: ServerProcess, operation: Operation, seed: int
) -> None:
    ask(server, operation, GenerationMode.NEGATIVE)


def ask(server: ServerProcess, operation: Operation, mode: GenerationMode) -> None:
    """Ask what the document says of an operation; for half of it, the path leads somewhere."""
    described = SCHEMA[operation.path][operation.method]
    known = {name: value for name, value in KNOWN.items() if f"{{{name}}}" in operation.path}
    strategies = [
        described.as_strategy(mode, path_parameters=path) for path in ([known] if known else []) + [None]
    ]

    @FILTERED
    @given(st.one_of(strategies))
    def asked(case: schemathesis.Case) -> None:
        case.validate_response(case.call(base_url=server.url, timeout=120), checks=CHECKS)

    asked()
    assert server.alive
