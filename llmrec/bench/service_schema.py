"""What a service's OpenAPI document promises, tried by schemathesis."""

from __future__ import annotations

from collections import Counter
from typing import Any

from llmrec.errors import require

SECONDS = 60.0  # that an answer may take


def schema_failures(url: str, cases: int) -> dict[str, float]:
    """Cases of all operations whose answer is a failure of the service or is not documented.

    Args:
        cases: in all.
    """
    schemathesis = require("schemathesis", "dev")
    found = schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
    operations = [one.ok() for one in found]
    tried, failed = 0, Counter[str]()
    for operation in operations:
        tried += _try(operation, -(-cases // len(operations)), failed)
    return {
        "schemathesis_failures": float(failed.total()),
        "schemathesis_cases": float(tried),
    } | {f"schemathesis_failures@{name}": float(n) for name, n in failed.items()}


def _try(operation: Any, cases: int, failed: Counter[str]) -> int:
    """How many were tried; counts the failed ones by method and path."""
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.core.failures import FailureGroup
    from schemathesis.specs.openapi.checks import status_code_conformance

    tried = 0
    kept = settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @kept
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        nonlocal tried
        tried += 1
        response = case.call(timeout=SECONDS)
        try:
            case.validate_response(response, checks=[not_a_server_error, status_code_conformance])
        except FailureGroup:
            failed[f"{case.method} {operation.path} {response.status_code}"] += 1

    check()
    return tried
