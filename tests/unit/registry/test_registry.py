"""The client of a schema registry, against a server of the published interface over real HTTP."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from pipeline.errors import ConfigError, Service, Unavailable
from pipeline.registry.client import MOST_BYTES, RegistryClient
from pipeline.registry.schemas import BUDGET, UNKNOWN_FOR, RegistrySchemas
from pipeline.settings import RegistrySettings, Settings
from pipeline.settings.secrets import list_secrets
from pipeline.settings.sources import shown
from tests.registry import SchemaRegistry
from tests.secure import Authority
from tests.servers import free_port

needs_openssl = pytest.mark.skipif(Authority.missing() is not None, reason=str(Authority.missing()))


class Clock:
    """A timer that only tests move, and pauses that take no time."""

    def __init__(self, step: int = 0) -> None:
        self.now, self.step, self.pauses = 0, step, 0
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> int:
        self.now += self.step
        return self.now

    def pause(self, _: float) -> None:
        self.pauses += 1
        self.meanwhile()


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as found:
        yield found


def client(url: str, **more: Any) -> RegistryClient:
    return RegistryClient(RegistrySettings(url=url, **more), Clock())


def schemas(url: str, clock: Clock) -> RegistrySchemas:
    return RegistrySchemas(RegistryClient(RegistrySettings(url=url), clock), clock, pause=clock.pause)


def test_a_schema_is_asked_for_once(registry: SchemaRegistry) -> None:
    known, clock = registry.register("s", '"int"'), Clock()
    found = schemas(registry.url, clock)
    for _ in range(3):
        found.fetch([known])
    schema = found.get(known)
    assert schema is not None
    assert (schema.kind, schema.text, schema.references) == ("AVRO", '"int"', {})
    assert registry.asked == [f"/schemas/ids/{known}"]
    assert clock.pauses == 0


def test_a_schema_is_found_by_its_guid_and_under_a_path(registry: SchemaRegistry) -> None:
    known = registry.register("s", '"int"')
    guid = str(registry.guid(known))
    found = schemas(f"{registry.url}/", Clock())
    found.fetch([guid])
    assert found.get(guid) is not None
    assert client(f"{registry.url}/apis/ccompat").ask("/schemas/ids/1") is None
    assert registry.asked[-1] == "/apis/ccompat/schemas/ids/1"


def test_what_a_schema_refers_to_is_found_however_far(registry: SchemaRegistry) -> None:
    registry.register("a/b", '"one"')
    registry.register("two", '"two"', references=[("one", "a/b", 1)])
    known = registry.register("s", '"three"', references=[("two", "two", 1), ("one", "a/b", 1), ("gone", "gone", 7)])
    found = schemas(registry.url, Clock())
    found.fetch([known])
    schema = found.get(known)
    assert schema is not None
    assert schema.references == {"one": '"one"', "two": '"two"'}
    assert registry.asked.count("/subjects/a%2Fb/versions/1?deleted=true") == 1


def test_schemas_that_refer_to_each_other_end(registry: SchemaRegistry) -> None:
    registry.register("one", "1", references=[("two", "two", 1)])
    registry.register("two", "2", references=[("one", "one", 1)])
    found = schemas(registry.url, Clock())
    found.fetch([1])
    assert found.get(1) is not None


def test_an_unknown_id_is_asked_for_again_once_and_then_not_for_a_while(registry: SchemaRegistry) -> None:
    clock = Clock()
    found = schemas(registry.url, clock)
    found.fetch([7, 8])
    found.fetch([7, 8])
    assert clock.pauses == 1
    assert len(registry.asked) == 4
    assert found.get(7) is None
    for _ in range(7):
        registry.register("s", '"int"')
    found.fetch([7])
    assert found.get(7) is None
    clock.now += UNKNOWN_FOR
    found.fetch([7])
    assert found.get(7) is not None


def test_a_registry_that_learns_of_a_schema_a_moment_later_makes_no_dead_letter(registry: SchemaRegistry) -> None:
    clock = Clock()
    clock.meanwhile = lambda: registry.register("s", '"int"') and None
    found = schemas(registry.url, clock)
    found.fetch([1])
    assert found.get(1) is not None


def test_a_call_ends_in_time_and_goes_on_where_it_was(registry: SchemaRegistry) -> None:
    for _ in range(3):
        registry.register("s", '"int"')
    found = schemas(registry.url, Clock(step=BUDGET // 4))
    with pytest.raises(Unavailable, match="takes long"):
        found.fetch([1, 2, 3])
    assert found.get(1) is not None
    assert found.get(3) is None
    found.fetch([3])
    assert found.get(3) is not None


def test_calls_that_end_early_get_through_many_unknown_ids(registry: SchemaRegistry) -> None:
    found = schemas(registry.url, Clock(step=BUDGET // 2))
    calls = 0
    while calls < 20:
        calls += 1
        try:
            found.fetch([7, 8, 9])
        except Unavailable:
            continue
        break
    assert calls <= 7
    assert sorted(registry.asked) == sorted(2 * [f"/schemas/ids/{id_}" for id_ in (7, 8, 9)])


def test_an_outage_is_unavailable_and_the_next_address_is_tried(registry: SchemaRegistry) -> None:
    known = registry.register("s", '"int"')
    away = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match="refused") as caught:
        client(away).ask("/schemas/ids/1")
    assert caught.value.service is Service.REGISTRY
    assert client(f"{away}, {registry.url}").ask(f"/schemas/ids/{known}") is not None


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"error_code": 50001, "message": "Error in the backend data store"}),
        (429, {"error_code": 42901}),
        (404, {"message": "no route"}),
        (301, {}),
        (200, [1]),
        b"<html>",
        b"x" * (MOST_BYTES + 1),
    ],
    ids=str,
)
def test_what_is_no_answer_of_a_registry_is_an_outage(registry: SchemaRegistry, answer: Any) -> None:
    registry.answer = lambda _: answer
    with pytest.raises(Unavailable, match=r"does not answer .* check registry\.url") as caught:
        client(registry.url).ask("/schemas/ids/1")
    assert caught.value.service is Service.REGISTRY


def test_a_registry_that_says_nothing_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match="timed out"):
            client(url, timeout=0.05).ask("/schemas/ids/1")


def test_an_account_is_shown_to_the_registry_and_to_nobody_else() -> None:
    with SchemaRegistry(account="tide:cast-0") as registry:
        known = registry.register("s", '"int"')
        account = {"username": "tide", "password": "cast-0"}
        assert client(registry.url, **account).ask(f"/schemas/ids/{known}") is not None
        for wrong in ({}, account | {"password": "other"}):
            with pytest.raises(ConfigError, match=r"HTTP 401\); check registry\.username and registry\.password"):
                client(registry.url, **wrong).ask(f"/schemas/ids/{known}")
    settings = Settings(registry=RegistrySettings(url="http://h", **account))
    assert "cast-0" in list_secrets(settings)
    assert "cast-0" not in str(shown(settings))


@needs_openssl
def test_tls_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with SchemaRegistry(certificate=authority.issue("registry")) as registry:
        known = registry.register("s", '"int"')
        assert client(registry.url, ssl_cafile=authority.certificate).ask(f"/schemas/ids/{known}") is not None
        with pytest.raises(ConfigError, match=r"cannot be trusted .* set registry\.ssl_cafile"):
            client(registry.url).ask("/schemas/ids/1")
    with pytest.raises(ConfigError, match=r"registry\.ssl_cafile: .* cannot be read"):
        client(registry.url, ssl_cafile=tmp_path / "gone.pem")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "registry:8081"}, "write it as https://host:port"),
        ({"url": "http://tide:cast@registry"}, "as registry.username and registry.password"),
        ({"url": "http://h", "username": "a"}, "give both, or neither"),
        ({"url": "https://h", "ssl_certfile": "a"}, "give both, or neither"),
        ({"url": "http://h", "ssl_cafile": "a"}, "url is not https"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RegistrySettings(**settings)


def test_avro_needs_a_schema_from_somewhere() -> None:
    with pytest.raises(ValidationError, match=r"input\.format avro needs registry\.url or input\.schema_file"):
        Settings.model_validate({"input": {"format": "avro"}})
    assert RegistrySettings(url="http://h", username="a", password=SecretStr("b")).urls == ("http://h",)
