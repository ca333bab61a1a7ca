"""The Python interface: fit, predict and backtest on frames."""
