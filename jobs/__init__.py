"""Things that happen on a clock: retraining, the verdict on its result, and the timetable."""
