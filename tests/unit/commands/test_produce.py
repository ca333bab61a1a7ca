import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import ConfigError
from pipeline.quickstart.demo_series import FILE, HORIZON, load
from pipeline.quickstart.produce import FileColumns, messages, paced, read
from pipeline.settings import InputSettings

HOUR = 3_600_000_000
SEVEN = 1_767_250_800_000_000  # 2026-01-01 07:00 UTC


def write(tmp_path: Path, text: str, name: str = "values.csv") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def decoded(table: pd.DataFrame, fields: InputSettings | None = None) -> list[dict[str, object]]:
    return [json.loads(value) for _, value, _ in messages(table, fields or InputSettings())]


def test_rows_become_messages_in_time_order_keyed_by_series(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "series_id,timestamp,value\nb,2026-01-01T07:00:00Z,2\na,2026-01-01T07:00:00Z,1\nb,2026-01-01T06:00:00Z,0.5\n",
    )
    table = read(file, FileColumns())
    assert [key for key, _, _ in messages(table, InputSettings())] == [b"b", b"b", b"a"]
    assert decoded(table) == [
        {"series_id": "b", "timestamp": "2026-01-01T06:00:00.000000Z", "value": 0.5},
        {"series_id": "b", "timestamp": "2026-01-01T07:00:00.000000Z", "value": 2.0},
        {"series_id": "a", "timestamp": "2026-01-01T07:00:00.000000Z", "value": 1.0},
    ]


def test_messages_use_the_field_names_that_the_worker_reads(tmp_path: Path) -> None:
    file = write(tmp_path, "series_id,timestamp,value\na,2026-01-01T07:00:00Z,1\n")
    (event,) = decoded(read(file, FileColumns()), InputSettings(series_id="id", timestamp="at", value="kwh"))
    assert event == {"id": "a", "at": "2026-01-01T07:00:00.000000Z", "kwh": 1.0}


def test_columns_may_have_other_names_and_more_of_them_may_be_there(tmp_path: Path) -> None:
    file = write(tmp_path, "place,when,load,weather\nx,2026-01-01,3,rain\n")
    assert decoded(read(file, FileColumns("place", "when", "load")))[0]["value"] == 3.0


def test_covariates_are_sent_along_under_their_own_names(tmp_path: Path) -> None:
    rows = "x,2026-01-01,3,rain,1.5,NA\nx,2026-01-02,,rain,,-2\n"
    file = write(tmp_path, "place,when,load,weather,wind,temperature\n" + rows)
    columns = FileColumns("place", "when", "load", ("temperature", "wind"))
    sent = [json.loads(value) for _, value, _ in messages(read(file, columns), InputSettings(), columns.covariates)]
    stamps = ["2026-01-01T00:00:00.000000Z", "2026-01-02T00:00:00.000000Z"]
    assert sent == [
        {"series_id": "x", "timestamp": stamps[0], "value": 3.0, "temperature": None, "wind": 1.5},
        {"series_id": "x", "timestamp": stamps[1], "value": None, "temperature": -2.0, "wind": None},
    ]


@pytest.mark.parametrize(
    ("covariates", "complaint"),
    [
        (("wind", "wind"), "--covariate wind: the column is named twice"),
        (("load",), "--covariate load: the column is named twice, or has the name of another part"),
        (("value",), "--covariate value: the column is named twice, or has the name of another part"),
        (("rain",), "no column rain"),
        (("weather",), 'data row 1: weather "rain" is not a finite number'),
    ],
)
def test_a_covariate_that_cannot_be_sent_is_named(tmp_path: Path, covariates: tuple[str, ...], complaint: str) -> None:
    file = write(tmp_path, "place,when,load,value,wind,weather\nx,2026-01-01,3,4,1.5,rain\n")
    with pytest.raises(ConfigError, match=complaint):
        read(file, FileColumns("place", "when", "load", covariates))


def test_a_covariate_that_would_hide_a_field_of_the_message_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "series_id,timestamp,value,kwh\na,2026-01-01,1,2\n")
    table = read(file, FileColumns(covariates=("kwh",)))
    with pytest.raises(ConfigError, match="--covariate kwh: a message has another field of this name"):
        next(messages(table, InputSettings(value="kwh"), ("kwh",)))


@pytest.mark.parametrize("empty", ["", "NA", "nan", "null"])
def test_an_empty_value_is_sent_as_null(tmp_path: Path, empty: str) -> None:
    file = write(tmp_path, f"series_id,timestamp,value\na,2026-01-01T07:00:00Z,{empty}\n")
    assert decoded(read(file, FileColumns()))[0]["value"] is None


def test_a_series_named_na_or_a_number_keeps_its_name(tmp_path: Path) -> None:
    file = write(tmp_path, "series_id,timestamp,value\nNA,2026-01-01,1\n007,2026-01-01,1\n")
    assert {event["series_id"] for event in decoded(read(file, FileColumns()))} == {"NA", "007"}


@pytest.mark.parametrize(
    "stamp",
    [
        "2026-01-01T07:00:00Z",
        "2026-01-01T09:00:00+02:00",
        "2026-01-01 07:00",
        "1767250800",
        "1767250800000",
        "1767250800000000",
        "1767250800000000000",
        "1767250800.0",
    ],
)
def test_every_way_to_write_a_time_means_the_same_and_without_an_offset_it_is_utc(tmp_path: Path, stamp: str) -> None:
    file = write(tmp_path, f"series_id,timestamp,value\na,{stamp},1\n")
    assert decoded(read(file, FileColumns()))[0]["timestamp"] == "2026-01-01T07:00:00.000000Z"


def test_a_column_of_mixed_units_sends_the_times_that_are_meant(tmp_path: Path) -> None:
    rows = "a,1767250800,1\na,1767250800000,2\na,1767250800000000,3\na,2026-01-01T07:00Z,4\n"
    file = write(tmp_path, "series_id,timestamp,value\n" + rows)
    assert {event["timestamp"] for event in decoded(read(file, FileColumns()))} == {"2026-01-01T07:00:00.000000Z"}


def test_the_unit_and_the_oldest_time_of_the_settings_are_those_of_files_too(tmp_path: Path) -> None:
    file = write(tmp_path, "series_id,timestamp,value\na,0,1\n")
    rule = InputSettings(time_unit="s", oldest_time="1970-01-01").time_rule()
    assert decoded(read(file, FileColumns(), times=rule))[0]["timestamp"] == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("stamp", ["2026", "20260101"])
def test_a_year_or_a_date_in_a_csv_is_text(tmp_path: Path, stamp: str) -> None:
    file = write(tmp_path, f"series_id,timestamp,value\na,{stamp},1\n")
    assert decoded(read(file, FileColumns()))[0]["timestamp"] == "2026-01-01T00:00:00.000000Z"


def test_since_is_the_first_time_and_until_is_left_out(tmp_path: Path) -> None:
    rows = "".join(f"a,2026-01-01T{hour:02d}:00:00Z,{hour}\n" for hour in range(10))
    file = write(tmp_path, "series_id,timestamp,value\n" + rows)
    assert [event["value"] for event in decoded(read(file, FileColumns(), SEVEN, SEVEN + 2 * HOUR))] == [7.0, 8.0]


def test_gzip_and_parquet_files_read_like_plain_csv(tmp_path: Path) -> None:
    text = "series_id,timestamp,value\na,2026-01-01T07:00:00Z,1.5\n"
    plain = decoded(read(write(tmp_path, text), FileColumns()))
    packed = tmp_path / "values.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    columns = tmp_path / "values.parquet"
    read(packed, FileColumns()).to_parquet(columns)
    assert decoded(read(packed, FileColumns())) == plain == decoded(read(columns, FileColumns()))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("series,timestamp,value\na,2026-01-01,1\n", "no column series_id: it has series, timestamp, value"),
        ("series_id,timestamp,value\na,2026-01-01,1\na,soon,1\n", 'data row 2: timestamp "soon" is no time'),
        ("series_id,timestamp,value\na,2026-01-01,much\n", 'data row 1: value "much" is not a finite number'),
        ("series_id,timestamp,value\na,2026-01-01,inf\n", "data row 1: value inf is not a finite number within"),
        ("series_id,timestamp,value\n,2026-01-01,1\n", "row 1: series_id"),
        ("series_id,timestamp,value\na,1767250800,1\n\na,soon,1\n", 'data row 2: timestamp "soon" is no time'),
        ("series_id,timestamp,value\na,1767250800,1\na,,1\n", "data row 2: timestamp the text is empty"),
        ("series_id,timestamp,value\na,1767250800,1\na,0,1\n", "data row 2: timestamp the number 0 is 1970"),
        ("series_id,timestamp,value\na,188,1\n", "data row 1: timestamp the number 188 looks like an uptime"),
        ("series_id,timestamp,value\na,638000000000000000,1\n", "set input.time_unit to ns if it is nanoseconds"),
        ("series_id,timestamp,value\na,2026-01-01,1\na,2026-01-01,1e19\n", "row 2: value 1e.19 is not a finite"),
        (f"series_id,timestamp,value\na,2026-01-01,{'9' * 400}\n", "row 1: value .* is not a finite number within"),
        ("series_id,timestamp,value\na,2026-01-01,1,5\n", "rows have more cells than the header"),
        ("series_id,timestamp,value\na,2026-01-01,1\na,2026-01-01,1,5\n", "Expected 3 fields in line 3, saw 4$"),
        ("", "is not a readable CSV"),
    ],
)
def test_a_file_that_does_not_fit_says_where_and_why(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        read(write(tmp_path, text), FileColumns())
    assert "\n" not in str(refused.value) and "np." not in str(refused.value)


KINDS = {
    "timestamp": ["list", "struct", "binary", "time", "duration", "bool", "uint64", "date", "null", "float", "text"],
    "value": ["list", "struct", "binary", "time", "duration", "bool", "uint64", "date", "null", "float", "text"],
    "series_id": ["list", "struct", "binary", "time", "duration", "bool", "uint64", "date", "null", "float", "text"],
}


@pytest.mark.parametrize(("column", "kind"), [(column, kind) for column, kinds in KINDS.items() for kind in kinds])
def test_a_column_of_any_kind_is_sent_or_refused_in_one_line(tmp_path: Path, column: str, kind: str) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs pyarrow")
    arrays = {
        "list": pa.array([[1]]),
        "struct": pa.array([{"a": 1}]),
        "binary": pa.array([b"\xff"]),
        "time": pa.array([3_600], pa.time32("s")),
        "duration": pa.array([5], pa.duration("s")),
        "bool": pa.array([True]),
        "uint64": pa.array([2**64 - 1], pa.uint64()),
        "date": pa.array([20_454], pa.date32()),
        "null": pa.array([None]),
        "float": pa.array([float("inf")]),
        "text": pa.array(["x"]),
    }
    good = {"series_id": pa.array(["a"]), "timestamp": pa.array([1_767_250_800]), "value": pa.array([1.0])}
    file = tmp_path / "values.parquet"
    parquet.write_table(pa.table(good | {column: arrays[kind]}), file)
    try:
        sent = decoded(read(file, FileColumns()))
    except ConfigError as refused:
        assert "\n" not in str(refused) and "np." not in str(refused)
    else:
        assert len(sent) == 1


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.csv does not exist"):
        read(Path("nowhere.csv"), FileColumns())


def test_a_rate_spreads_messages_evenly_over_time() -> None:
    clock = [0.0]
    sent_at = []

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    for _ in paced(((b"k", b"v", []) for _ in range(5)), 2.0, now=lambda: clock[0], sleep=sleep):
        sent_at.append(clock[0])
    assert sent_at == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_without_a_rate_nothing_waits() -> None:
    def never(seconds: float) -> None:
        raise AssertionError(f"slept {seconds} s")

    assert len(list(paced(((b"k", b"v", []) for _ in range(3)), None, sleep=never))) == 3


def test_the_packaged_series_are_whole_hourly_and_small() -> None:
    table = read(FILE, FileColumns())
    sizes = table.groupby("series_id").size()
    assert len(sizes) == 64
    assert set(sizes) == {748, 1008}
    assert table["value"].notna().all()
    assert FILE.stat().st_size < 1_000_000
    assert "CC BY 4.0" in (FILE.parent / "ORIGIN.md").read_text(encoding="utf-8")


def test_the_demo_moves_series_by_whole_weeks_to_end_in_one_week() -> None:
    original = read(FILE, FileColumns()).groupby("series_id")["timestamp"].max()
    moved = load().groupby("series_id")["timestamp"].max()
    assert set(((moved - original) / pd.Timedelta(weeks=1)) % 1) == {0.0}
    assert moved.max() - moved.min() < pd.Timedelta(weeks=1)
    assert moved.max() == original.max()


def test_the_demo_counts_the_hours_left_to_each_series_own_end() -> None:
    table = load(5)
    assert table["series_id"].nunique() == 5
    cut = table[table["left"] == HORIZON].set_index("series_id")["timestamp"]
    end = table[table["left"] == 0].set_index("series_id")["timestamp"]
    assert set(end - cut) == {pd.Timedelta(hours=HORIZON)}
    assert table["left"].is_monotonic_decreasing


def test_a_file_is_sent_only_where_its_messages_are_read() -> None:
    table = pd.DataFrame({"series_id": ["a"], "timestamp": pd.to_datetime(["2026-01-01T00:00Z"]), "value": [1.0]})
    assert decoded(table, InputSettings(value="payload.value"))[0]["payload.value"] == 1.0
    for settings in (InputSettings(series_id="$key"), InputSettings(timestamp="$timestamp")):
        with pytest.raises(ConfigError, match="this sends flat events, and the mapping of"):
            next(messages(table, settings))
