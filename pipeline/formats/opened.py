"""The decoder that settings name."""

from pipeline.formats.avro import AvroFileDecoder
from pipeline.formats.csv import CsvDecoder
from pipeline.formats.json_schema import JsonSchemaDecoder
from pipeline.formats.msgpack import MessagePackDecoder
from pipeline.messages.decoder import Decoder, JsonDecoder
from pipeline.settings import InputSettings


def open_decoder(settings: InputSettings) -> Decoder:
    """Make the decoder of input.format; ConfigError for a library or file that is missing."""
    if settings.format == "msgpack":
        return MessagePackDecoder()
    if settings.format == "avro":
        assert settings.schema_file is not None, "the settings check it"
        return AvroFileDecoder(settings.schema_file)
    if settings.format == "csv":
        return CsvDecoder(settings)
    if settings.format == "json-schema":
        return JsonSchemaDecoder(lenient=settings.lenient)
    return JsonDecoder(lenient=settings.lenient)
