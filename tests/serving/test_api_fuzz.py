"""Whatever the schema allows, and what it does not, is answered as the schema says."""

from pathlib import Path
from typing import Any

import schemathesis
import schemathesis.specs.openapi.checks as openapi
from hypothesis import HealthCheck, given, settings
from live_service import live_service
from schemathesis.checks import not_a_server_error
from tiny_shop import TinyRun

from llmrec.serving.app import create_app

# not: whether what the schema allows is accepted, for a schema does not know the catalogue
CHECKS = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
]


def test_no_request_breaks_it(serve: Any, tiny_run: TinyRun, tmp_path: Path) -> None:
    folder, path = tiny_run.bundle("atomic"), tmp_path / "store.sqlite"
    with (
        live_service(folder, path) as service,
        serve(create_app(service.recommender, service.live)) as url,
    ):
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        assert len(operations) >= 12
        for operation in operations:
            _try(operation)


def _try(operation: Any) -> None:
    @settings(
        max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    check()
