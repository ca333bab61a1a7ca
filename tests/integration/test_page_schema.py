"""The OpenAPI document is true: schemathesis asks every route for what it allows, and for what it does not."""

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS

from pipeline.database import open_database, upgrade
from tests.page_world import NAMES, Visitor, World

WITHOUT_END = "/api/events"
"""It answers until the reader leaves; its answers have tests of their own."""
REFUSED_BY_WORDS = "positive_data_acceptance"
"""JSON Schema cannot say that `from` lies before `to`, nor which names there are."""
OF_A_SERIES = ("/api/history", "/api/origins", "/api/forecast", "/api/accuracy", "/api/reliability")
WITH_PARAMETERS = (*OF_A_SERIES, "/api/series", "/api/models", "/api/promotions", "/api/jobs/runs", "/api/dead-letters")
PLAIN = ("/api/status", "/api/jobs", "/api/partitions", "/healthz", "/readyz")
ASKED = [(path, GenerationMode.POSITIVE) for path in (*WITH_PARAMETERS, *PLAIN)]
ASKED += [(path, GenerationMode.NEGATIVE) for path in WITH_PARAMETERS]


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    url = f"sqlite:///{tmp_path_factory.mktemp('schema') / 'tidecast.db'}"
    upgrade(url)
    database = open_database(url, timeout=20.0)
    World(database)
    database.close()
    with Visitor(url) as visiting:
        yield visiting


@pytest.fixture(scope="module")
def document(visitor: Visitor) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(visitor.read("/openapi.json"))


@pytest.mark.parametrize(("path", "mode"), ASKED, ids=[f"{path}-{mode.value}" for path, mode in ASKED])
def test_every_route_answers_as_the_document_says(
    document: schemathesis.BaseSchema, visitor: Visitor, path: str, mode: GenerationMode
) -> None:
    unfit = [check for check in CHECKS.get_all() if check.__name__ == REFUSED_BY_WORDS]

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(document[path]["GET"].as_strategy(generation_mode=mode), st.sampled_from([None, *NAMES]))
    def ask(case: Case, name: str | None) -> None:
        if mode is GenerationMode.POSITIVE and path in OF_A_SERIES and name is not None:
            case.query = {**(case.query or {}), "series": name}
        asked = case.as_transport_kwargs(base_url="http://127.0.0.1:8321")

        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(visitor.app)) as client:
                return await client.request(
                    asked["method"], asked["url"], params=asked.get("params"), headers=dict(asked.get("headers") or {})
                )

        case.validate_response(visitor.loop.run(call()), excluded_checks=unfit)

    ask()


def test_the_document_describes_every_route_and_only_reading(visitor: Visitor) -> None:
    paths = visitor.read("/openapi.json")["paths"]
    assert set(paths) == {*WITH_PARAMETERS, *PLAIN, WITHOUT_END}
    assert all(list(methods) == ["get"] for methods in paths.values())
    assert all(methods["get"]["summary"] for methods in paths.values())
