"""A format whose library is not installed is the operator's, and says what to install."""

import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.formats.opened import open_decoder
from pipeline.formats.schemas import Schemas
from pipeline.registry.client import RegistryClient
from pipeline.registry.schemas import RegistrySchemas
from pipeline.settings import InputSettings, RegistrySettings


def no_schemas() -> Schemas:
    return RegistrySchemas(RegistryClient(RegistrySettings(url="http://127.0.0.1:1"), lambda: 0), lambda: 0)


@pytest.mark.parametrize(
    ("settings", "module", "extra"),
    [
        (InputSettings(format="avro"), "fastavro", "avro"),
        (InputSettings(format="protobuf"), "google.protobuf.descriptor_pb2", "protobuf"),
    ],
)
def test_a_missing_library_is_named_before_the_first_message(
    monkeypatch: pytest.MonkeyPatch, settings: InputSettings, module: str, extra: str
) -> None:
    open_decoder(settings, no_schemas())
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    if package == "google":
        import google.protobuf

        monkeypatch.delattr(google.protobuf, "descriptor_pb2")
    with pytest.raises(ConfigError, match=rf"pip install 'tidecast\[{extra}\]'"):
        open_decoder(settings, no_schemas())
