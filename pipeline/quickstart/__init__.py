"""What makes the first two minutes work: a development broker, a demonstration, file replay, a small real data set."""
