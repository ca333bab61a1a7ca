"""The decoder that settings name."""

from pipeline.formats.avro import AvroFileDecoder, open_avro
from pipeline.formats.csv import CsvDecoder
from pipeline.formats.json_schema import JsonSchemaDecoder
from pipeline.formats.msgpack import MessagePackDecoder
from pipeline.formats.protobuf import ProtobufFileDecoder, open_protobuf
from pipeline.formats.schemas import Schemas
from pipeline.messages.decoder import Decoder, JsonDecoder
from pipeline.settings import InputSettings


def open_decoder(settings: InputSettings, schemas: Schemas | None = None) -> Decoder:
    """Make the decoder of input.format, with `schemas` of a registry if there is one.

    ConfigError for a library or file that is missing.
    """
    if settings.format == "msgpack":
        return MessagePackDecoder()
    if settings.format == "csv":
        return CsvDecoder(settings)
    if settings.format == "json-schema":
        return JsonSchemaDecoder(lenient=settings.lenient)
    if settings.format == "protobuf" and schemas is not None:
        return open_protobuf(schemas)
    if settings.format == "protobuf":
        assert settings.schema_file is not None and settings.message is not None, "the settings check it"
        return ProtobufFileDecoder(settings.schema_file, settings.message)
    if settings.format == "avro" and schemas is not None:
        return open_avro(schemas, settings.schema_file)
    if settings.format == "avro":
        assert settings.schema_file is not None, "the settings check it"
        return AvroFileDecoder(settings.schema_file)
    return JsonDecoder(lenient=settings.lenient)
