"""Calendars that rows may follow, from days to years, and how well they do.

days, business days   1D, 3D, B
weeks                 W-MON: the weekday that most rows have; 2W-MON
half months           SMS: the 1st and 15th; SME: the 15th and the last
months                MS, ME, BMS, BME: first or last day, first or last business day; 2MS
quarters, years       QS-JAN, QE-DEC, YS-JAN, YE-DEC, 2YS-JAN, of months in the same way
"""

import numpy as np

from jobs.frames.sample import Candidate, Sample, commonest, mode
from pipeline.grid.frequency import DAY
from pipeline.records import Ints, Mask

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
FEWEST_WEEKENDS = 2
"""Fewer leave open whether the rows are of business days or of days."""
BUSINESS = 0.98
"""The least share of business days: a row of a weekend would count for the Friday before it."""
OTHER_DAY, ANY_DAY = 0.95, 0.85
"""The worth of months whose rows are all of another day than the first or last, or of any."""
SOME_WEEKS, SOME_DAYS = 0.98, 0.97
"""The worth of several weeks or days, so that of calendars that fit alike the plainest wins."""


def calendars(sample: Sample) -> list[Candidate]:
    """Judge every calendar that the rows of a sample may follow, the longer before the shorter."""
    days = sample.local // DAY
    found = [*_months(sample, days), *_weeks(sample, days), *_business_days(sample, days)]
    apart = np.diff(days)[sample.within]
    for length in dict.fromkeys(commonest(apart, sample.share_of_steps)):
        if length >= 1:
            steps, off = np.divmod(apart, length)
            share = sample.share_of_steps
            on = float((share * ((off == 0) & (steps >= 1))).sum())
            ahead = float((share * ((off == 0) & (steps == 1))).sum())
            found.append(Candidate(f"{length}D", on, ahead, 1.0 if length == 1 else SOME_DAYS))
    return found


def _judge(text: str, sample: Sample, on: Mask, step: Ints, worth: float = 1.0) -> Candidate:
    """Judge a calendar by which rows (N,) are on it, and the steps (N,) that they fall into."""
    ahead, share = np.diff(step)[sample.within], sample.share_of_steps
    alone = 1.0 - float((share * (ahead == 0)).sum())
    return Candidate(text, float((sample.share * on).sum()) * alone, float((share * (ahead == 1)).sum()), worth)


def _business_days(sample: Sample, days: Ints) -> list[Candidate]:
    weekday = (days + 3) % 7
    on = weekday < 5
    over = (np.diff(days)[sample.within] == 3) & (weekday[1:][sample.within] == 0)
    if over.sum() < FEWEST_WEEKENDS or float((sample.share * on).sum()) < BUSINESS:
        return []
    return [_judge("B", sample, on, (days + 3) // 7 * 5 + np.minimum(weekday, 4))]


def _weeks(sample: Sample, days: Ints) -> list[Candidate]:
    weekday = (days + 3) % 7
    usual = mode(weekday, sample.share)
    week = (days + 3 - usual) // 7
    found = []
    for count in dict.fromkeys(commonest(np.diff(week)[sample.within], sample.share_of_steps)):
        if count >= 1:
            phase = mode(week % count, sample.share)
            on = (weekday == usual) & (week % count == phase)
            text = f"{count if count > 1 else ''}W-{WEEKDAYS[usual]}"
            found.append(_judge(text, sample, on, (week - phase) // count, 1.0 if count == 1 else SOME_WEEKS))
    return found


def _months(sample: Sample, days: Ints) -> list[Candidate]:
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    first, last = months.astype("datetime64[D]"), (months + 1).astype("datetime64[D]") - 1
    month = months.astype(np.int64)  # from January 1970
    day = (dates - first).astype(np.int64) + 1
    usual = mode(day, sample.share)
    patterns: dict[str, tuple[Mask, float]] = {
        "S": (dates == first, 1.0),
        "E": (dates == last, 1.0),
        "BS": (dates == np.busday_offset(first, 0, roll="forward"), 0.99),
        "BE": (dates == np.busday_offset(last, 0, roll="backward"), 0.99),
        "other": (day == np.minimum(usual, (last - first).astype(np.int64) + 1), OTHER_DAY),
        "any": (np.ones(len(day), np.bool_), ANY_DAY),
    }
    found = []
    for count in dict.fromkeys([*commonest(np.diff(month)[sample.within], sample.share_of_steps), 1]):
        if count >= 1:
            phase = mode(month % count, sample.share)
            for kind, (is_day, worth) in patterns.items():
                text = _name(count, phase, kind if kind in ("S", "E", "BS", "BE") else "S")
                on = is_day & (month % count == phase)
                found.append(_judge(text, sample, on, (month - phase) // count, worth))
    middle = day >= 15
    half = 2 * month + middle
    found.append(_judge("SMS", sample, (day == 1) | (day == 15), half))
    ends = dates == last
    found.append(_judge("SME", sample, ends | (day == 15), 2 * month + ends))
    return found


def _name(count: int, phase: int, kind: str) -> str:
    """Name every `count` months from January 1970 + phase on, by their first (S) or last day (E), of business (B)."""
    business, end = kind[:-1], kind[-1]
    if count % 12 == 0:
        years = count // 12
        return f"{years if years > 1 else ''}{business}Y{end}-{MONTHS[phase % 12]}"
    if count == 3:
        return f"{business}Q{end}-{MONTHS[phase % 3 if end == 'S' else 9 + phase % 3]}"
    return f"{count if count > 1 else ''}{business}M{end}"
